"""A status tells what was seen just now, and names what is wrong with the next thing to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from infra.diagnosis import problems
from infra.doors import Doors
from infra.local import supervisor
from infra.local.errors import PartError
from infra.local.supervisor import ProcessStatus
from infra.manifest import Manifest, NoManifest
from infra.status import DeploymentStatus, observe
from tests.support.deployments import ToldDoors, manifest

pytestmark = pytest.mark.unit

ALWAYS = ("etcd", "postgres", "sentry", "placement", "worker-1", "region-agent", "api")
AT_WORK = ("scheduler", "daprd-1", "daprd-2")


class Supervisors:
    """What every site's supervisor says; a test changes it."""

    def __init__(self) -> None:
        self.stopped: set[tuple[str, str]] = {("region-b", name) for name in AT_WORK}
        self.silent: set[str] = set()
        self.refusing: set[str] = set()

    def status(self, socket: Path) -> dict[str, ProcessStatus] | None:
        site = socket.parent.name
        if site in self.refusing:
            raise PartError("the supervisor refused")
        if site in self.silent:
            return None
        names = (*ALWAYS, *AT_WORK) if site.startswith("region") else ("main",)
        return {name: self._one(site, name) for name in names}

    def _one(self, site: str, name: str) -> ProcessStatus:
        runs = (site, name) not in self.stopped
        return ProcessStatus(name, 7, runs, 1, 0, "Running" if runs else "Restarting")


@pytest.fixture
def supervisors(monkeypatch: pytest.MonkeyPatch) -> Supervisors:
    told = Supervisors()
    monkeypatch.setattr(supervisor, "status", told.status)
    return told


@pytest.fixture
def doors(tmp_path: Path, supervisors: Supervisors) -> ToldDoors:
    return ToldDoors(manifest(tmp_path))


def look(doors: ToldDoors) -> DeploymentStatus:
    return observe(doors.manifest, cast("Doors", doors))


def wrong(doors: ToldDoors) -> str:
    return "\n".join(f"{problem.what} -> {problem.next}" for problem in problems(look(doors)))


def test_a_healthy_deployment_has_no_problem(doors: ToldDoors) -> None:
    seen = look(doors)

    assert problems(seen) == []
    assert seen.active == "a"
    assert [(region.name, region.role, region.epoch) for region in seen.regions] == [
        ("a", "active", 3),
        ("b", "standby", 3),
    ]
    assert seen.region("b").database.role == "sync_standby"
    assert seen.region("b").database.lag_bytes == 0
    assert {site.name for site in seen.sites} == {"region-a", "region-b", "witness", "payments", "wan"}
    assert len(seen.links) == 2


def test_a_status_is_plain_values_for_scripts(doors: ToldDoors) -> None:
    told = json.loads(json.dumps(look(doors).to_json()))

    assert told["active"] == "a"
    assert told["sites"][0]["processes"][0]["running"] is True


def test_a_region_that_is_gone_is_told_of_and_the_rest_is_still_seen(
    doors: ToldDoors, supervisors: Supervisors
) -> None:
    doors.agents["a"] = None
    doors.agents["b"] = {"role": "active", "epoch": 4}
    doors.silent.add("patroni a")
    doors.members = [{"name": "b", "role": "leader", "state": "running", "timeline": 4}]
    supervisors.silent.add("region-a")
    seen = look(doors)
    said = wrong(doors)

    assert seen.active == "b"
    assert "the agent of region a: no answer" in said
    assert "region-a does not run" in said
    assert "region a is no synchronous standby (its database is unknown, unknown)" in said
    assert "`holdfast up`" in said


def test_no_active_region_is_the_first_problem(doors: ToldDoors) -> None:
    doors.agents["a"] = None
    first = problems(look(doors))[0]

    assert first.what == "no region is active (a does not answer, b is standby)"


def test_two_active_regions_are_a_problem_and_none_is_called_the_active_one(doors: ToldDoors) -> None:
    doors.agents["b"] = {"role": "active", "epoch": 4}

    assert look(doors).active is None
    assert "regions a and b both say that they are active" in wrong(doors)


def test_what_up_does_not_look_at_is_restarted_by_name(doors: ToldDoors, supervisors: Supervisors) -> None:
    supervisors.stopped |= {("region-a", "daprd-1"), ("region-a", "scheduler")}

    assert "`holdfast restart a daprd-1 scheduler`" in wrong(doors)


def test_a_process_that_does_not_run_is_named(doors: ToldDoors, supervisors: Supervisors) -> None:
    supervisors.stopped |= {("region-a", "daprd-1"), ("witness", "main")}
    said = wrong(doors)

    assert "region-a: daprd-1 (restarting) does not run" in said
    assert "witness: main (restarting) does not run" in said


def test_the_standbys_stopped_dapr_is_as_it_should_be(doors: ToldDoors, supervisors: Supervisors) -> None:
    assert "region-b" not in wrong(doors)

    supervisors.stopped.add(("region-b", "worker-1"))
    assert "region-b: worker-1" in wrong(doors)


def test_a_supervisor_that_refuses_is_told_of(doors: ToldDoors, supervisors: Supervisors) -> None:
    supervisors.refusing.add("wan")

    assert "wan does not run: its supervisor gives the supervisor refused" in wrong(doors)


def test_a_standby_that_is_not_synchronous_is_a_risk(doors: ToldDoors) -> None:
    doors.members[1] |= {"role": "replica"}

    assert "a loss of region a now could lose" in wrong(doors)


def test_a_disturbed_link_is_described(doors: ToldDoors) -> None:
    doors.toxics["a-b.postgres"] = [{"type": "latency", "stream": "upstream", "attributes": {"latency": 60}}]
    doors.disabled.add("b-a.postgres")
    said = wrong(doors)

    assert "link a-b.postgres is disturbed: upstream latency (latency 60)" in said
    assert "link b-a.postgres is cut" in said


def test_links_without_a_proxy_are_unknown_and_not_open(doors: ToldDoors) -> None:
    doors.silent.add("wan")

    assert [link.enabled for link in look(doors).links] == [None, None]
    assert "2 of 2 links have no proxy" in wrong(doors)


def test_stuck_runs_are_named(doors: ToldDoors) -> None:
    doors.agents["a"] = {"role": "active", "epoch": 3, "stuck": [f"run-{number}" for number in range(7)]}
    said = wrong(doors)

    assert "7 runs in region a make no progress: run-0, run-1, run-2, run-3, run-4 …" in said
    assert "`holdfast runs run-0`" in said


def test_answers_of_another_shape_are_unknown(doors: ToldDoors) -> None:
    doors.agents["a"] = {"role": None, "epoch": "3", "open_runs": True}
    doors.members = cast("list[dict[str, Any]]", [])
    region = look(doors).region("a")

    assert (region.role, region.epoch, region.open_runs) == ("unknown", None, None)
    assert region.database.role == "replica"


def test_a_missing_manifest_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoManifest, match="start with `holdfast up`"):
        Manifest.load(tmp_path)
    (tmp_path / "deployment.json").write_text("{}")
    with pytest.raises(NoManifest, match="writes it anew"):
        Manifest.load(tmp_path)


def test_a_manifest_survives_its_file(tmp_path: Path) -> None:
    written = manifest(tmp_path)
    (tmp_path / "deployment.json").write_text(written.model_dump_json())

    assert Manifest.load(tmp_path) == written
