"""An experiment does its steps in order, undoes them whatever happens, and leaves a report that can be judged again."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from chaoslib.experiment import ensure_experiment_is_valid
from rich.console import Console

from chaos import drill
from chaos import session as sessions
from chaos.drill import EXPERIMENTS, Drill
from chaos.history import Fault, History
from chaos.report import PAGE, VERDICT, verdict_of
from infra.manifest import Manifest
from tests.support.deployments import manifest
from tests.support.histories import FAULT_AT, region_loss

pytestmark = pytest.mark.unit
STRIKES = {"region-loss": "lose", "worker-crash": "crash", "switchover": "switch over"}


class ToldSession:
    """Does nothing, and remembers in which order it was asked to. What breaks is told to it."""

    did: ClassVar[list[str]] = []
    breaks: ClassVar[dict[str, BaseException]] = {}

    def __init__(self, _: Manifest, *, runs: int) -> None:
        self.runs = runs

    def begin_load(self) -> int:
        return self._do("begin", self.runs)

    def hold_in_flight(self, at_least: int) -> bool:
        return self._do(f"hold {at_least}", True)

    def lose_active(self) -> Fault:
        return self._do("lose", Fault(name="region-loss", target="region a", at=FAULT_AT))

    def crash_worker(self) -> Fault:
        return self._do("crash", Fault(name="worker-crash", target="worker-1", at=FAULT_AT))

    def switch_over(self) -> Fault:
        return self._do("switch over", Fault(name="switchover", target="region b", at=FAULT_AT))

    def wait_active(self, _: float) -> str:
        return self._do("active", "b")

    def wait_healthy(self, _: float) -> bool:
        return self._do("healthy", True)

    def wait_ended(self) -> bool:
        return self._do("ended", True)

    def return_lost(self) -> None:
        self._do("return", None)

    def end_load(self) -> None:
        self._do("end", None)

    def record(self, _: str) -> History:
        return self._do("record", region_loss())

    def close(self) -> None:
        self._do("close", None)

    def _do(self, what: str, answer: Any) -> Any:
        self.did.append(what)
        if what in self.breaks:
            raise self.breaks[what]
        return answer


class Standing:
    """A deployment that stands, in a state directory."""

    exists = True

    def __init__(self, _: str, __: object, state: Path | None) -> None:
        assert state is not None
        self.state, self.directory = state, state / "local"


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[ToldSession]]:
    described = manifest(tmp_path / "local")
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "deployment.json").write_text(described.model_dump_json())
    fresh = type("Fresh", (ToldSession,), {"did": [], "breaks": {}})
    monkeypatch.setattr(sessions, "Session", fresh)
    monkeypatch.setattr(drill, "Deployment", Standing)
    yield fresh
    sessions.use(None)


def perform(name: str, state: Path, said: io.StringIO | None = None) -> Path:
    with Drill("local", state, {}, None, False, Console(file=said or io.StringIO(), width=200)) as prepared:
        verdict, folder = prepared.run(name, 24)
    assert verdict == verdict_of(region_loss())
    return folder


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_one_that_chaos_toolkit_takes(name: str) -> None:
    ensure_experiment_is_valid(yaml.safe_load(EXPERIMENTS[name].read_text()))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_strikes_under_load_and_is_recorded_before_it_ends(
    told: type[ToldSession], tmp_path: Path, name: str
) -> None:
    perform(name, tmp_path)
    steps = ["healthy", "begin", "hold 24", STRIKES[name], "active", "ended"]
    assert told.did[: len(steps)] == steps
    assert told.did.index("ended") < told.did.index("record")
    assert told.did[-1] == "close"


@pytest.mark.parametrize("broken", ["lose", "active"])
def test_what_was_lost_is_returned_though_a_step_fails(told: type[ToldSession], tmp_path: Path, broken: str) -> None:
    told.breaks[broken] = TimeoutError("waited 60 s for [/nothing]")
    said = io.StringIO()
    perform("region-loss", tmp_path, said)
    assert told.did.index(broken) < told.did.index("ended") < told.did.index("return") < told.did.index("record")
    assert "waited 60 s for [/nothing]" in said.getvalue()


def test_what_was_lost_is_returned_though_somebody_interrupts(told: type[ToldSession], tmp_path: Path) -> None:
    told.breaks["active"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        perform("region-loss", tmp_path)
    assert told.did[told.did.index("active") :] == ["active", "return", "close"]


def test_without_a_steady_state_nothing_is_struck(told: type[ToldSession], tmp_path: Path) -> None:
    told.breaks["healthy"] = TimeoutError("waited 90 s for both regions to be healthy")
    perform("region-loss", tmp_path)
    assert not {"begin", "lose"} & set(told.did)


def test_a_session_is_closed_and_forgotten_though_nothing_could_be_recorded(
    told: type[ToldSession], tmp_path: Path
) -> None:
    told.breaks["record"] = OSError("no space left")
    with pytest.raises(OSError, match="no space left"):
        perform("switchover", tmp_path)
    assert told.did[-1] == "close"
    assert sessions._Current.session is None


def test_a_report_has_the_journal_and_the_end_of_every_log(
    told: type[ToldSession], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drill, "LOG_BYTES", 5)
    for site, text in (("region-a", "short"), ("witness", "a long one")):
        log = tmp_path / "local" / site / "logs" / "etcd.log"
        log.parent.mkdir(parents=True)
        log.write_text(text)
    folder = perform("switchover", tmp_path)
    assert folder.parent == tmp_path / "reports"
    assert folder.name.endswith("-switchover")
    assert json.loads((folder / "journal.json").read_text())["status"] == "completed"
    assert (folder / VERDICT).is_file()
    assert (folder / PAGE).is_file()
    assert verdict_of(History.load(folder / "history")) == verdict_of(region_loss())
    logs = {path.parent.name: path.read_text() for path in folder.glob("logs/*/etcd.log")}
    assert logs == {"region-a": "short", "witness": "g one"}


def test_each_step_is_told_when_it_begins_and_chaos_toolkits_logger_is_left_as_it_was(
    told: type[ToldSession], tmp_path: Path
) -> None:
    logger, said = logging.getLogger(drill.CHAOS_LOGGER), io.StringIO()
    before = logger.level, list(logger.handlers), logger.propagate
    perform("region-loss", tmp_path, said)
    lines = [line.split(" s  ", 1)[1].strip() for line in said.getvalue().splitlines()]
    assert [line for line in lines if line.startswith("Action:")] == [
        "Action: begin-load",
        "Action: lose-active-region",
        "Action: return-lost-region",
        "Action: end-load",
        "Action: return-lost-region",
    ]
    assert (logger.level, list(logger.handlers), logger.propagate) == before
