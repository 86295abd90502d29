"""The policy pack is one that Pulumi can load, and says no over Pulumi's own protocol.

Seconds, and a small download.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2, struct_pb2
from pulumi.runtime.proto import analyzer_pb2, analyzer_pb2_grpc

from infra.policies.rules import EACH, WHOLE
from infra.state import project_root
from infra.toolchain.uv import find_uv
from tests.support.declared import Declared, Program, declare, plain

pytestmark = pytest.mark.component

PACK = project_root() / "infra" / "policies"


@pytest.fixture(scope="module")
def analyzer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The pack in the environment that its requirements make, as Pulumi starts it."""
    uv = find_uv(project_root() / ".holdfast" / "uv")
    assert uv is not None, "run `make setup`"
    environment = tmp_path_factory.mktemp("policies") / "venv"
    python = environment / "bin" / "python"
    for arguments in (
        ["venv", str(environment), "--python", "3.11"],
        ["pip", "install", "--python", str(python), "-r", str(PACK / "requirements.txt")],
    ):
        subprocess.run([uv, *arguments], check=True, capture_output=True)
    with subprocess.Popen([python, PACK], cwd=PACK, stdout=subprocess.PIPE, text=True) as pack:
        try:
            assert pack.stdout is not None
            with grpc.insecure_channel(f"127.0.0.1:{int(pack.stdout.readline())}") as channel:
                yield analyzer_pb2_grpc.AnalyzerStub(channel)
        finally:
            pack.kill()


@pytest.fixture(scope="module")
def program() -> Program:
    return declare()


def properties(one: Declared) -> struct_pb2.Struct:
    sent = struct_pb2.Struct()
    sent.update(plain(one.inputs))
    return sent


def provider(one: Declared) -> analyzer_pb2.AnalyzerProviderResource:
    return analyzer_pb2.AnalyzerProviderResource(type="pulumi:providers:kubernetes", name=one.provider)


def said(answer: Any) -> list[tuple[str, str]]:
    return [(one.policyName, one.message) for one in answer.diagnostics]


def analyze(analyzer: Any, one: Declared) -> list[tuple[str, str]]:
    request = analyzer_pb2.AnalyzeRequest(
        type=one.type, name=one.name, urn=f"urn:{one.name}", properties=properties(one), provider=provider(one)
    )
    return said(analyzer.Analyze(request))


def test_it_has_every_policy_and_all_of_them_are_mandatory(analyzer: Any) -> None:
    info = analyzer.GetAnalyzerInfo(empty_pb2.Empty())
    assert info.name == "holdfast"
    assert {policy.name for policy in info.policies} == {*EACH, *WHOLE}
    assert {policy.enforcementLevel for policy in info.policies} == {analyzer_pb2.MANDATORY}
    assert all(policy.description for policy in info.policies)


def test_the_program_is_within_every_policy(analyzer: Any, program: Program) -> None:
    for one in program.resources:
        assert analyze(analyzer, one) == []
    resources = [
        analyzer_pb2.AnalyzerResource(
            type=one.type,
            name=one.name,
            urn=f"urn:{one.name}:{one.type}",
            properties=properties(one),
            provider=provider(one),
        )
        for one in program.resources
    ]
    assert said(analyzer.AnalyzeStack(analyzer_pb2.AnalyzeStackRequest(resources=resources))) == []
    # Without its policies everybody could start the agents' work.
    fewer = [one for one in resources if not one.name.startswith("workflowaccesspolicy")]
    answer = said(analyzer.AnalyzeStack(analyzer_pb2.AnalyzeStackRequest(resources=fewer)))
    assert {policy for policy, _ in answer} == {"policies-present"}


def test_a_container_as_root_is_refused(analyzer: Any, program: Program) -> None:
    (api,) = [one for one in program.of_kind("Deployment", "region-a") if one.name == "api-a"]
    api.inputs["spec"]["template"]["spec"]["containers"][0]["securityContext"]["runAsUser"] = 0
    assert [policy for policy, _ in analyze(analyzer, api)] == ["unprivileged"]
