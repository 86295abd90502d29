"""An experiment does its steps in order, undoes them whatever happens, and leaves a report that can be judged again."""

from __future__ import annotations

import inspect
import io
import json
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from chaoslib.experiment import ensure_experiment_is_valid
from rich.console import Console

from chaos import actions, drill, people, probes
from chaos import session as sessions
from chaos.drill import DRILLS, Drill, uninterrupted
from chaos.experiment import EXPERIMENTS, chosen, read
from chaos.faults import FAULTS
from chaos.history import Fault, History
from chaos.report import PAGE, VERDICT, verdict_of
from infra.manifest import Manifest
from tests.support.deployments import manifest
from tests.support.histories import FAULT_AT, region_loss

pytestmark = pytest.mark.unit
STRIKES = {
    "region-loss": "inject region-loss at active",
    "worker-crash": "inject worker-crash at active",
    "switchover": "inject switchover at standby",
}
LOSE = STRIKES["region-loss"]


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

    @property
    def injected(self) -> list[str]:
        return [one for one in self.did if one.startswith("inject")]

    def inject(self, name: str, where: str) -> Fault:
        return self._do(f"inject {name} at {where}", Fault(name=name, target=where, at=FAULT_AT))

    def lift(self, name: str | None = None) -> list[str]:
        return self._do("lift", [name or "all"])

    def claim(self, claim: str, look: Callable[[], str]) -> bool:
        try:
            return look() == ""
        except TimeoutError:
            return False

    def wait(self, what: str, look: Callable[[], object], seconds: float) -> object:
        return self._do("moved" if "other than" in what else "go on", True)

    active_before = "a"
    client = None

    def wait_active(self, _: float) -> str:
        return self._do("active", "b")

    def wait_healthy(self, _: float) -> bool:
        return self._do("healthy", True)

    def wait_idle(self, _: float) -> bool:
        return True

    def wait_ended(self) -> bool:
        return self._do("ended", True)

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
        verdict, folder = prepared.run(read(name), 24)
    assert verdict == verdict_of(region_loss())
    return folder


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_one_that_chaos_toolkit_takes(name: str) -> None:
    ensure_experiment_is_valid(yaml.safe_load(EXPERIMENTS[name].read_text()))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_does_what_there_is_and_takes_it_back(name: str) -> None:
    one = read(name)
    steps = [*one.document["steady-state-hypothesis"]["probes"], *one.document["method"], *one.document["rollbacks"]]
    for step in steps:
        provider = step["provider"]
        module = {"chaos.actions": actions, "chaos.people": people, "chaos.probes": probes}[provider["module"]]
        assert provider["func"] in module.__all__
        inspect.signature(getattr(module, provider["func"])).bind(**provider.get("arguments", {}))
    assert set(one.faults) <= FAULTS.keys()
    # What people do is a fault that is noted.
    assert one.faults or any(step["provider"]["module"] == "chaos.people" for step in steps)
    assert [step["provider"]["func"] for step in one.document["rollbacks"]] == ["end_load", "lift"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_says_what_it_is_for(name: str) -> None:
    one = read(name)
    # What is beside the matrix would have to be repeated as often as its rows are.
    assert one.rows or "thousand" in one.tags
    assert {"must", "should", "thousand"} & set(one.tags)
    assert one.claim[0].isupper() or one.claim[0].isdigit()
    assert not one.claim.endswith(".")
    assert len(one.document["description"]) > 50
    assert 10 <= one.seconds <= (900 if "thousand" in one.tags else 240)


@pytest.mark.parametrize("name", DRILLS)
def test_an_experiment_strikes_under_load_and_is_recorded_before_it_ends(
    told: type[ToldSession], tmp_path: Path, name: str
) -> None:
    perform(name, tmp_path)
    order = ["healthy", "begin", "hold 24", STRIKES[name], "ended", "lift", "record", "close"]
    assert [one for one in dict.fromkeys(told.did) if one in order] == order
    assert told.did[-1] == "close"


@pytest.mark.parametrize("broken", [LOSE, "moved"])
def test_what_was_lost_is_returned_though_a_step_fails(told: type[ToldSession], tmp_path: Path, broken: str) -> None:
    told.breaks[broken] = TimeoutError("waited 60 s for [/nothing]")
    said = io.StringIO()
    perform("region-loss", tmp_path, said)
    assert told.did.index(broken) < told.did.index("ended") < told.did.index("lift") < told.did.index("record")
    assert ("waited 60 s for [/nothing]" in said.getvalue()) is (broken == LOSE)


def test_what_was_lost_is_returned_though_somebody_interrupts(told: type[ToldSession], tmp_path: Path) -> None:
    told.breaks["moved"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        perform("region-loss", tmp_path)
    assert told.did[told.did.index("moved") :] == ["moved", "lift", "close"]


def test_an_interrupt_waits_until_everything_is_taken_back(
    told: type[ToldSession], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lift(self: ToldSession, name: str | None = None) -> list[str]:
        if name is None and "ended" in self.did:
            signal.raise_signal(signal.SIGINT)
        return self._do("lift", [])

    monkeypatch.setattr(told, "lift", lift)
    monkeypatch.setattr(drill, "run_experiment", lambda _, **__: told.did.append("ended") or {"status": "completed"})
    with pytest.raises(KeyboardInterrupt):
        perform("region-loss", tmp_path)
    assert told.did == ["ended", "lift", "close"]


def test_what_undoes_an_experiment_outside_the_main_thread_is_left_alone() -> None:
    thread = threading.Thread(target=lambda: uninterrupted().__enter__())
    thread.start()
    thread.join(5)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_a_steady_state_nothing_is_struck(told: type[ToldSession], tmp_path: Path) -> None:
    told.breaks["healthy"] = TimeoutError("waited 90 s for both regions to be healthy")
    perform("region-loss", tmp_path)
    assert not {"begin", LOSE} & set(told.did)


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
        "Action: lift-everything",
    ]
    assert (logger.level, list(logger.handlers), logger.propagate) == before


def test_experiments_are_chosen_by_name_by_tag_or_all() -> None:
    assert [one.name for one in chosen(["switchover", "region-loss"], [])] == ["switchover", "region-loss"]
    marked = chosen([], ["R4"])
    assert "switchover" in [one.name for one in marked]
    assert all("R4" in one.tags for one in marked)
    assert len(chosen([], [], everything=True)) == len(EXPERIMENTS)
    assert [one.name for one in chosen(["switchover"], ["R4"])].count("switchover") == 1


@pytest.mark.parametrize(("names", "tags"), [(["flood"], []), ([], ["flood"])])
def test_what_there_is_not_is_refused_with_what_there_is(names: list[str], tags: list[str]) -> None:
    with pytest.raises(KeyError, match=r"'flood'.*region"):
        chosen(names, tags)


def test_the_handbook_has_every_experiment_with_its_claim() -> None:
    handbook = (Path(drill.__file__).parent / "README.md").read_text("utf-8")
    for name in EXPERIMENTS:
        assert f"[`{name}`](experiments/{name}.yaml) | {' '.join(read(name).rows)} | {read(name).claim} |" in handbook
