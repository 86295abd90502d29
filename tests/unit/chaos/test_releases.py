"""Workers get other code one after the other, and their own again; a release does what it says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.models.test import TestModel
from pydantic_ai_dapr.approvals import ASK_ACTIVITY
from pydantic_ai_dapr.run import current_run
from refund_desk.effects import MemoryEffects
from service.hosting import load_hosted

from chaos import probes, releases
from chaos import session as sessions
from chaos.faults import FAULTS, NotInjectedError, NotLiftedError
from chaos.faults.local import releases as local
from chaos.faults.local.releases import Releases
from chaos.faults.target import Struck
from chaos.history import Fault
from chaos.releases import careless_release, next_release
from infra.manifest import Manifest
from tests.support.deployments import manifest

pytestmark = pytest.mark.unit


class Supervised:
    """Workers that say they are ready when they are started, unless a test says otherwise."""

    def __init__(self, place: Manifest) -> None:
        self.place, self.did, self.active, self.mute = place, list[str](), True, set[str]()

    def stop(self, place: str, part: str, only: Collection[str]) -> None:
        self.did.append(f"stop {', '.join(only)}")

    def start(self, place: str, part: str, only: Collection[str]) -> None:
        (worker,) = only
        self.did.append(f"start {worker} with {self.agent(worker)}")
        if worker not in self.mute:
            said = "executing runs in epoch 3" if self.active else "warm, waiting for the region to become active"
            with self.log(worker).open("a") as log:
                log.write(f"{said}\n")

    def is_active(self, place: str) -> bool:
        return self.active

    def agent(self, worker: str) -> str:
        return json.loads((self.place.regions["a"].directory / "config" / f"{worker}.json").read_text())["agent"]

    def log(self, worker: str) -> Path:
        return self.place.regions["a"].directory / "logs" / f"{worker}.log"


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Supervised:
    monkeypatch.setattr(local, "READY_SECONDS", 0.05)
    monkeypatch.setattr(local, "POLL_SECONDS", 0.001)
    made = Supervised(manifest(tmp_path))
    for folder in ("config", "logs"):
        (made.place.regions["a"].directory / folder).mkdir(parents=True)
    for worker in made.place.regions["a"].workers:
        file = made.place.regions["a"].directory / "config" / f"{worker}.json"
        file.write_text(json.dumps({"agent": "refund_desk:hosted", "name": worker}))
    return made


@pytest.fixture
def deploys(workers: Supervised) -> Releases:
    processes: Any = workers
    return Releases(workers.place, processes)


def test_workers_get_other_code_one_after_the_other_and_their_own_again(workers: Supervised, deploys: Releases) -> None:
    before = (workers.place.regions["a"].directory / "config" / "worker-1.json").read_bytes()
    struck = deploys.deploy("a", "chaos.releases:next_release")
    assert (struck.proven, struck.evidence) == (True, {"agent": "chaos.releases:next_release", "workers": 2})
    deploys.deploy("a", "chaos.releases:careless_release")
    deploys.withdraw("a")
    deploys.withdraw("a")
    assert workers.did == [
        f"{what} {worker}{f' with {agent}' if what == 'start' else ''}"
        for agent in ("chaos.releases:next_release", "chaos.releases:careless_release", "refund_desk:hosted")
        for worker in ("worker-1", "worker-2")
        for what in ("stop", "start")
    ]
    folder = workers.place.regions["a"].directory / "config"
    assert (folder / "worker-1.json").read_bytes() == before
    assert sorted(one.name for one in folder.iterdir()) == ["worker-1.json", "worker-2.json"]


def test_a_standbys_worker_is_ready_when_it_waits_and_an_active_ones_when_it_works(
    workers: Supervised, deploys: Releases
) -> None:
    workers.active = False
    assert deploys.deploy("a", "x:y").proven
    workers.is_active = lambda _: True  # type: ignore[method-assign]
    with pytest.raises(NotInjectedError, match="worker-1, worker-2 of a did not come up with x:y"):
        deploys.deploy("a", "x:y")


def test_code_that_does_not_come_up_is_no_deploy_and_is_not_withdrawn_either(
    workers: Supervised, deploys: Releases
) -> None:
    workers.mute = {"worker-2"}
    with pytest.raises(NotInjectedError, match="worker-2 of a did not come up with x:y"):
        deploys.deploy("a", "x:y")
    with pytest.raises(NotLiftedError, match="worker-2 of a did not come up with its own code"):
        deploys.withdraw("a")
    workers.mute = set()
    deploys.withdraw("a")
    assert workers.agent("worker-2") == "refund_desk:hosted"


@pytest.mark.parametrize(("name", "fits"), [("deploy-next", True), ("deploy-careless", False)])
def test_a_deploy_names_code_that_can_be_loaded_and_says_whether_it_fits(name: str, fits: bool) -> None:
    class Target:
        did: list[str] = []  # noqa: RUF012 - of this test alone

        def deploy(self, place: str, agent: str) -> Struck:
            assert load_hosted(agent).name == "refund-desk"
            self.did.append(f"deploy {place} {agent}")
            return Struck(1.0, {"agent": agent}, True)

        def withdraw(self, place: str) -> None:
            self.did.append(f"withdraw {place}")

    target: Any = Target()
    struck = FAULTS[name].inject(target, "a", set)
    assert struck.evidence["fits"] is fits
    FAULTS[name].lift(target, "a")
    assert target.did == [f"deploy a {struck.evidence['agent']}", "withdraw a"]


class Run:
    """A durable run that remembers what it is asked."""

    def __init__(self, old: bool) -> None:
        self.old, self.called = old, list[str]()

    async def call(self, name: str, payload: Callable[[], object]) -> object:
        self.called.append(name)
        return payload()

    def is_patched(self, name: str) -> bool:
        return not self.old


@pytest.mark.parametrize(
    ("release", "old", "asked"),
    [(next_release, False, 1), (next_release, True, 0), (careless_release, False, 1), (careless_release, True, 1)],
)
def test_a_release_asks_nobody_in_new_runs_and_a_careless_one_in_all(
    release: releases.AskingDesk, old: bool, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refund_desk.model.resolve_model", lambda *_: TestModel())
    monkeypatch.setattr("refund_desk.effects.HttpEffects", lambda _: MemoryEffects())
    effects: Any = type("Effects", (), {"model_provider": None})()
    agent = release.build_agent(model="x", model_latency_seconds=0.0, effects=effects)
    (ask,) = [one.instruction for one in agent._instructions if one.dynamic]
    run: Any = Run(old)
    token = current_run.set(run)
    try:
        assert asyncio.run(ask()) is None  # type: ignore[call-arg]
    finally:
        current_run.reset(token)
    assert run.called == [ASK_ACTIVITY] * asked
    assert asyncio.run(ask()) is None  # type: ignore[call-arg]


def test_what_ran_is_replayed_by_the_last_code_that_fits(tmp_path: Path) -> None:
    session: Any = sessions.Session.__new__(sessions.Session)
    session.manifest = manifest(tmp_path).model_copy(update={"settings": {"agent": "refund_desk:hosted"}})

    def deployed(agent: str, fits: bool) -> Fault:
        return Fault(name="deploy", target="region a", at=1.0, evidence={"agent": agent, "fits": fits})

    session.injected = [Fault(name="region-loss", target="region a", at=1.0)]
    assert session._agent() == "refund_desk:hosted"
    session.injected += [deployed("x:next", True), deployed("x:careless", False)]
    assert session._agent() == "x:next"


def test_a_run_that_waits_for_code_that_fits_is_a_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    from holdfast.client import NotAnsweredError, RunView

    views: dict[str, str | None] = {"run-1": None, "run-2": "running"}

    class Client:
        def run(self, run_id: str) -> RunView | None:
            if run_id == "run-3":
                raise NotAnsweredError("nobody")
            status = views[run_id]
            return RunView(run_id=run_id, status=status, accepted_at="") if status else None

    session: Any = sessions.Session.__new__(sessions.Session)
    session.client, session.held, session.claims = Client(), ["run-1", "run-2", "run-3"], []
    monkeypatch.setattr(sessions, "POLL_SECONDS", 0.001)
    sessions.use(session)
    try:
        assert not probes.runs_are_stalled(0.02)
        views["run-2"] = "stalled"
        assert probes.runs_are_stalled(0.02)
    finally:
        sessions.use(None)
    assert [one.held for one in session.claims] == [False, True]
