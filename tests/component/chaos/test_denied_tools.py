"""Tools of another app are denied by its policy, on real sidecars with mTLS; where nobody is home, nothing is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from pydantic_ai import FunctionToolset
from pydantic_ai_dapr import access_policy

from chaos import toolroom
from chaos.faults import NotInjectedError
from chaos.toolroom import denied_calls
from infra.manifest import Manifest
from tests.component.dapr_stack import API_TOKEN
from tests.component.mtls_stack import mtls_stack
from tests.support.deployments import manifest

pytestmark = pytest.mark.component


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The folder of region a, with the token of its sidecars' API."""
    place = manifest(tmp_path).regions["a"].directory
    (place / "config").mkdir(parents=True)
    (place / "config" / "dapr-api-token").write_text(f"{API_TOKEN}\n")
    return place


def supervise(site: Path, entrypoint: list[str], environment: list[str]) -> None:
    honest = {"entrypoint": entrypoint, "environment": environment}
    (site / "process-compose.yaml").write_text(yaml.safe_dump({"processes": {"daprd-1": honest}}))


@pytest.fixture
def region(tmp_path: Path, site: Path) -> Iterator[Manifest]:
    """A region whose first sidecar is that of the stack."""
    with mtls_stack(tmp_path) as stack:
        process = psutil.Process(stack.start_app("refund-desk").process.pid)
        # A region's sidecars have an app's channel, and no public port.
        command = [one for one in process.cmdline() if not one.startswith("--dapr-public-port=")]
        command += ["--app-port=1", "--app-protocol=http", "--app-channel-address=127.0.0.1"]
        supervise(site, command, [f"{name}={value}" for name, value in process.environ().items()])
        yield manifest(tmp_path)


def test_what_the_policy_denies_is_refused_and_what_it_allows_answers(
    region: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = denied_calls(region, "a")
    assert [(one.name, one.refused) for one in tried] == [
        ("a tool that the policy denies", True),
        ("an allowed tool, called by another app", True),
    ]
    assert tried[0].observed.startswith("order 7 is on its way | The access policy")

    def allows_everything(app: str, _: object, toolset: FunctionToolset[object], __: object) -> dict[str, Any]:
        return access_policy(app, [toolroom.CLERK, toolroom.STRANGER], toolset, [*toolset.tools])

    monkeypatch.setattr(toolroom, "access_policy", allows_everything)
    open_doors = denied_calls(region, "a")
    assert [one.refused for one in open_doors] == [False, False]
    assert open_doors[0].observed == "order 7 is on its way | refunded order 7"


def test_a_sidecar_that_does_not_come_up_is_no_evidence(site: Path, tmp_path: Path) -> None:
    supervise(site, ["/bin/false"], [])
    (tmp_path / "pki").mkdir()
    with pytest.raises(NotInjectedError, match="the sidecar of holdfast-tools did not answer"):
        denied_calls(manifest(tmp_path), "a")
