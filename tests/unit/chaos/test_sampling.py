"""Roles and runs are looked at while an experiment goes on; what gives no answer is a sample too."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from holdfast.client import HistoryView, NotAnsweredError, RunView

from chaos import sampling
from chaos.history import RoleSample
from chaos.sampling import Sampler, observed, role_of
from infra.doors import Unanswered
from tests.support.deployments import manifest

pytestmark = pytest.mark.unit
AGENT = {"role": "active", "epoch": 3}
NODE = {"role": "primary", "state": "running", "timeline": 3, "xlog": {"location": 500}}
CLUSTER = {"members": [{"name": "a", "role": "leader"}, {"name": "b", "role": "sync_standby", "lag": 64}]}


@dataclass
class ToldDoors:
    """Answers what it was told, and nothing else."""

    answers: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def agent_status(self, region: str) -> Mapping[str, Any]:
        return self._answer("agent")

    def patroni(self, region: str) -> Mapping[str, Any]:
        return self._answer("patroni")

    def cluster(self, region: str) -> Mapping[str, Any]:
        return self._answer("cluster")

    def _answer(self, part: str) -> Mapping[str, Any]:
        if part not in self.answers:
            raise Unanswered("no answer in time")
        return self.answers[part]


class ToldClient:
    """One region's runs: `ended` has ended, `silent` gives no answer."""

    def __init__(self, apis: Mapping[str, str], **_: Any) -> None:
        self.region = next(iter(apis))

    def active_region(self) -> str | None:
        return self.region if self.region == "a" else None

    def history(self, run_id: str, *, seconds: float = 15.0) -> list[HistoryView]:
        if run_id == "silent":
            raise NotAnsweredError("no answer")
        at = "2026-01-01T00:00:00+00:00"
        usage = {"usage": {"input_tokens": 40, "output_tokens": 2}}
        asked: dict[str, Any] = {"ordinal": 1, "kind": "model", "name": "model", "attempt": 1}
        events = [
            HistoryView(sequence=0, type="taskScheduled", timestamp=at, task_id=1, input=asked),
            HistoryView(sequence=1, type="taskCompleted", timestamp=at, task_id=1, result={"ok": usage}),
            HistoryView(sequence=2, type="taskScheduled", timestamp=at, task_id=2, input=asked | {"ordinal": 2}),
        ]
        return [*events, HistoryView(sequence=3, type="executionCompleted", timestamp=at)][
            : 4 if run_id == "ended" else 3
        ]

    def run(self, run_id: str) -> RunView | None:
        return RunView(run_id=run_id, status="failed", accepted_at="")

    def close(self) -> None:
        """Nothing to close."""


def told(**answers: Mapping[str, Any]) -> RoleSample:
    return role_of("a", ToldDoors(answers))  # type: ignore[arg-type]


def test_a_region_tells_its_role_its_database_and_who_holds_the_lease() -> None:
    sample = told(agent=AGENT, patroni=NODE, cluster=CLUSTER)
    assert (sample.region, sample.agent, sample.epoch) == ("a", "active", 3)
    assert (sample.database, sample.timeline, sample.wal, sample.lag, sample.lease) == ("primary", 3, 500, None, "a")
    standby = {"role": "replica", "state": "running", "timeline": 3, "xlog": {"received_location": 436}}
    sample = role_of("b", ToldDoors({"patroni": standby, "cluster": CLUSTER}))  # type: ignore[arg-type]
    assert (sample.agent, sample.database, sample.wal, sample.lag, sample.lease) == (None, "replica", 436, 64, "a")


def test_a_region_that_gives_no_answer_is_a_sample_too() -> None:
    sample = told()
    assert sample.model_dump(exclude={"at"}, exclude_none=True) == {"region": "a"}
    stopping = told(agent=AGENT, patroni=NODE | {"state": "stopping"})
    assert (stopping.agent, stopping.database) == ("active", None)


def test_a_client_is_told_what_has_completed_and_what_it_cost() -> None:
    client: Any = ToldClient({"a": ""})
    seen = observed("open", "a", client)
    assert seen is not None
    assert (seen.status, seen.ordinals, seen.tokens) == ("running", [1], {1: 42})
    ended = observed("ended", "a", client)
    assert ended is not None
    assert ended.status == "failed"
    assert observed("silent", "a", client) is None


@pytest.fixture
def sampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sampler]:
    monkeypatch.setattr(sampling, "EVERY_SECONDS", 0.001)
    monkeypatch.setattr(sampling, "Doors", lambda *_, **__: ToldDoors({"agent": AGENT}))
    monkeypatch.setattr(sampling, "HoldfastClient", ToldClient)
    made = manifest(tmp_path)
    made.api_token_file.parent.mkdir(parents=True)
    made.api_token_file.write_text("token")
    found = Sampler(made, lambda: {"ended", "open", "silent"})
    yield found
    found.stop()


def test_both_regions_and_every_run_that_is_open_are_sampled_until_the_end(sampler: Sampler) -> None:
    sampler.start()
    deadline = time.monotonic() + 10
    while len(sampler.roles) < 6 or sum(one.run_id == "open" for one in sampler.observations) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    sampler.stop()
    roles, seen = len(sampler.roles), sampler.observations
    assert {one.region for one in sampler.roles} == {"a", "b"}
    assert sampler.has_seen_progress
    assert {one.region for one in seen} == {"a"}, "only the active region is asked about runs"
    assert [one.run_id for one in seen].count("ended") == 1, "a run that has ended is not looked at again"
    assert [one.at for one in seen] == sorted(one.at for one in seen)
    sampler.stop()
    assert len(sampler.roles) == roles


def test_a_sampler_that_never_began_can_be_stopped(sampler: Sampler) -> None:
    sampler.stop()
    assert (sampler.roles, sampler.observations, sampler.has_seen_progress) == ([], [], False)
