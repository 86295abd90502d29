"""The program declares one deployment, with no secret in the state."""

from __future__ import annotations

import asyncio
import base64
import json
import pickletools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime import mocks, rpc
from pulumi.runtime.config import CONFIG

from infra import program
from infra.config import Configuration
from infra.kubernetes.target import KubernetesTarget
from infra.local.part import PARTS
from infra.local.resources import LocalTarget
from infra.program import target_of
from infra.toolchain import ToolMissing
from infra.topology import Settings
from tests.support.parts import FileTarget

pytestmark = pytest.mark.unit


class Recorder(mocks.Mocks):
    """Answers like a provider whose parts come up, and keeps what was registered."""

    def __init__(self) -> None:
        self.resources: dict[str, dict[str, Any]] = {}
        self.types: dict[str, str] = {}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.resources[args.name], self.types[args.name] = args.inputs, args.typ
        facts = {"api": f"https://{args.name}/api", "agent": f"https://{args.name}/agent"}
        return f"local/{args.name}", {**args.inputs, "facts": facts, "healthy": True, "detail": ""}

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:
        return {}


@pytest.fixture
def configured() -> Iterator[dict[str, Any]]:
    settings: dict[str, Any] = {}
    token = CONFIG.set(settings)
    yield settings
    CONFIG.reset(token)


def run(state: Path, target: FileTarget | None = None) -> tuple[Recorder, dict[str, Any]]:
    recorder = Recorder()
    exported: dict[str, Any] = {}
    # Pulumi asks for the thread's loop, which `asyncio.run` of an earlier test has taken away.
    asyncio.set_event_loop(asyncio.new_event_loop())
    mocks.set_mocks(recorder, project="holdfast", stack="local", preview=False)

    @pulumi.runtime.test
    def declare() -> pulumi.Output[Any]:
        program.main(state, target or FileTarget())
        outputs = pulumi.runtime.stack.get_root_resource().outputs  # type: ignore[attr-defined]
        return pulumi.Output.from_input(outputs).apply(exported.update)

    declare()
    return recorder, exported


def test_every_part_is_a_resource_and_each_region_a_component(tmp_path: Path, configured: dict[str, Any]) -> None:
    recorder, _ = run(tmp_path)

    parts = {name for name, kind in recorder.types.items() if ":dynamic/holdfast:" in kind}
    assert parts == set(PARTS)
    assert {name for name, kind in recorder.types.items() if kind == "holdfast:index:Region"} == {"a", "b"}


def test_the_outputs_say_where_to_go(tmp_path: Path, configured: dict[str, Any]) -> None:
    _, outputs = run(tmp_path)

    assert outputs == {
        "manifest": str(tmp_path / "local" / "deployment.json"),
        "api_a": "https://region-a/api",
        "api_b": "https://region-b/api",
        "agent_a": "https://region-a/agent",
        "agent_b": "https://region-b/agent",
        "active": "holdfast status --stack local",
    }


def test_a_resource_is_given_its_own_name_to_report_to(tmp_path: Path, configured: dict[str, Any]) -> None:
    recorder, _ = run(tmp_path)

    assert recorder.resources["region-a"]["reports_to"] == (
        "urn:pulumi:local::holdfast::holdfast:index:Region$pulumi-python:dynamic/holdfast:RegionProcesses::region-a"
    )
    assert recorder.resources["wan"]["reports_to"] == (
        "urn:pulumi:local::holdfast::pulumi-python:dynamic/holdfast:WanLinks::wan"
    )


def test_values_of_variables_never_enter_the_state(
    tmp_path: Path, configured: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "s3cret-value")
    configured["holdfast:environment"] = '["API_KEY"]'
    recorder, _ = run(tmp_path)

    assert "s3cret-value" not in json.dumps(recorder.resources, default=str)
    settings = recorder.resources["region-a"]["settings"]
    assert settings["environment"] == ["API_KEY"]
    assert settings["environment_fingerprint"]


def test_the_provider_is_in_the_state_by_reference_and_not_as_a_secret(
    tmp_path: Path, configured: dict[str, Any]
) -> None:
    recorder, _ = run(tmp_path)
    serialized = recorder.resources["root"]["__provider"]

    assert not rpc.is_rpc_secret(serialized)
    words = {argument for _, argument, _ in pickletools.genops(base64.b64decode(serialized))}
    assert {"infra.local.part", "PartProvider", "tests.support.parts"} <= {str(word) for word in words}
    assert len(serialized) < 400


def test_a_wrong_configuration_stops_the_program_before_any_resource(
    tmp_path: Path, configured: dict[str, Any]
) -> None:
    configured["holdfast:workers"] = "none"

    with pytest.raises(pulumi.RunError, match="holdfast:workers: found 'none'"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("name", "kind"), [("local", LocalTarget), ("kind", KubernetesTarget), ("cloud", KubernetesTarget)]
)
def test_the_stack_names_the_target(name: Any, kind: type, tmp_path: Path) -> None:
    assert isinstance(target_of(Configuration(name, Settings("s", tmp_path))), kind)


def test_a_missing_tool_stops_the_program_before_any_resource(tmp_path: Path, configured: dict[str, Any]) -> None:
    class Bare(FileTarget):
        def check(self) -> None:
            raise ToolMissing("etcd 3.6.16 not found: run `make setup`")

    with pytest.raises(pulumi.RunError, match="run `make setup`"):
        run(tmp_path, Bare())
