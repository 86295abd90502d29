"""`holdfast load`: what it refuses, what it shows, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from holdfast import load as commands
from holdfast import runs
from holdfast.cli import main
from holdfast.client import RunView
from rich.console import Console

from infra.state import MANIFEST
from loadtests.telling import BEGIN, END
from loadtests.traffic import capacity, locusts
from loadtests.traffic.alerts import ALERTS
from loadtests.traffic.entries import Entry
from loadtests.traffic.locusts import Load, Loaded, NotLoadedError
from loadtests.traffic.objectives import SLO
from tests.support.deployments import manifest

pytestmark = pytest.mark.unit


class Locusts:
    """Loads that take no time: starts are slow above a rate, and what goes wrong is raised."""

    def __init__(self) -> None:
        self.limit, self.loads, self.wrong = 100.0, list[Load](), list[BaseException]()
        self.entries: Callable[[Load], list[Entry]] = self._entries

    def __call__(self, load: Load, folder: Path, stack: str, state: Path, on_entries: Callable[..., None]) -> Loaded:
        self.loads.append(load)
        if self.wrong:
            raise self.wrong.pop(0)
        entries = self.entries(load)
        on_entries(6.0, entries)
        on_entries(7.0, entries)
        return Loaded(load, load.warm_up, load.warm_up + load.seconds, 0.5, entries)

    def _entries(self, load: Load) -> list[Entry]:
        found: list[Entry] = []
        for number in range(int(load.rate * load.whole_seconds)):
            at = number / load.rate
            found.append(Entry(name="start", at=at, seconds=0.1 if load.rate <= self.limit else 2.0))
            found.append(Entry(name="complete", at=at, seconds=0.5))
            found.append(Entry(name="freshness", at=at, seconds=0.0))
        return found


class Client:
    """Lists what is left open."""

    def runs(self, **_: Any) -> list[RunView]:
        return []

    def close(self) -> None:
        pass


@pytest.fixture
def locust(monkeypatch: pytest.MonkeyPatch) -> Locusts:
    made = Locusts()
    monkeypatch.setattr(locusts, "run_load", made)
    monkeypatch.setattr(runs, "client_of", lambda *_: Client())
    return made


@pytest.fixture
def state(tmp_path: Path) -> Path:
    directory = tmp_path / "local"
    directory.mkdir()
    (directory / MANIFEST).write_text(manifest(directory).model_dump_json())
    return tmp_path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["load", *map(str, arguments)], prog_name="holdfast", env={"COLUMNS": "200"})


def test_a_load_that_holds_is_shown_with_its_report(locust: Locusts, state: Path) -> None:
    answer = call("run", "burst", "--rate", "2", "--seconds", "20", "--state", state)
    assert answer.exit_code == 0, answer.output
    assert locust.loads == [Load("burst", 2.0, 20.0, 5.0)]
    assert "holds  start_latency: 99 % within 1 s; seen 100.00 % of 40" in answer.stdout
    assert "burst, 2 a second: 6 s, 50 started, 50 ended, 0 failed" in answer.stderr
    assert answer.stderr.count("started") == 1  # the second look came too soon for another line
    (report,) = state.glob("loads/*-burst/report.html")
    assert str(report) in answer.stdout


def test_a_load_that_misses_an_objective_is_told_to_scripts(locust: Locusts, state: Path) -> None:
    locust.limit = 1.0
    answer = call("run", "--rate", "2", "--state", state, "--json")
    assert answer.exit_code == 1
    told = json.loads(answer.stdout)
    assert told["ok"] is False
    assert {one["name"]: one["holds"] for one in told["outcomes"]}["start_latency"] is False
    assert Path(told["report"]).is_file()


def test_a_load_in_which_nothing_was_seen_is_not_judged(locust: Locusts, state: Path) -> None:
    locust.entries = lambda load: []
    assert call("run", "--state", state).exit_code == 2


def test_errors_are_shown_by_kind(locust: Locusts, state: Path) -> None:
    locust.entries = lambda load: [Entry(name="start", at=6, seconds=30, error=kind) for kind in ("503", "503", "409")]
    answer = call("run", "--state", state)
    assert answer.exit_code == 1
    assert "503 2, 409 1" in answer.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("run", "wave"), "there is no shape 'wave'; there are steady, ramp, burst, herd"),
        (("run", "--rate", "0.25"), "0.25 runs a second is no rate"),
        (("capacity", "--from", "0"), "0 runs a second is no rate"),
        (("capacity", "--from", "4", "--to", "2"), "--from 4 is above --to 2"),
        (("run", "--rate", "nan"), "no rate"),
        (("run", "--rate", "inf"), "no rate"),
    ],
)
def test_what_can_not_be_done_is_refused(locust: Locusts, state: Path, arguments: Sequence[str], reason: str) -> None:
    answer = call(*arguments, "--state", state)
    assert answer.exit_code == 2
    assert reason in answer.stderr
    assert locust.loads == []


@pytest.mark.parametrize("command", ["run", "capacity"])
def test_where_nothing_is_deployed_there_is_no_load(locust: Locusts, tmp_path: Path, command: str) -> None:
    answer = call(command, "--state", tmp_path, "--json")
    assert answer.exit_code == 2
    assert "start with `holdfast up`" in json.loads(answer.stdout)["error"]


@pytest.mark.parametrize(
    ("wrong", "reason"), [(NotLoadedError("Locust ended with code 3"), "code 3"), (KeyboardInterrupt(), "interrupted")]
)
def test_a_load_that_did_not_take_place_is_no_answer(
    locust: Locusts, state: Path, wrong: BaseException, reason: str
) -> None:
    locust.wrong = [wrong]
    answer = call("run", "--state", state)
    assert answer.exit_code == 2
    assert reason in answer.stderr


def test_objectives_that_are_wrong_are_refused_before_anything_begins(locust: Locusts, state: Path) -> None:
    document = yaml.safe_load(SLO.read_text())
    document["objectives"]["freshness"]["targets"] = 99
    (state / "own.yaml").write_text(yaml.safe_dump(document))
    for command in ("run", "capacity", "objectives"):
        at = () if command == "objectives" else ("--state", state)
        answer = call(command, "--slo", state / "own.yaml", *at)
        assert answer.exit_code == 2
        assert "objectives.freshness.targets: a key that does not exist; did you mean target?" in answer.stderr
    assert locust.loads == []


def test_the_capacity_is_found_and_shown(locust: Locusts, state: Path) -> None:
    locust.limit = 2.5
    page, images = state / "docs.md", state / "images"
    images.mkdir()
    page.write_text(f"{BEGIN}\n{END}\n")
    answer = call("capacity", "--seconds", "10", "--page", page, "--state", state)
    assert answer.exit_code == 0, answer.output
    assert [load.rate for load in locust.loads] == [1, 2, 4, 3, 2.5, 2.8, 2.6]
    assert "4 a second: missed start_latency 0.00 % of 40" in answer.stderr
    assert "The objectives hold at 2.5 runs a second, and not at 2.6" in answer.stderr
    assert "hold at 2.5" in page.read_text()
    (folder,) = state.glob("loads/*-capacity")
    assert [one.parent.name for one in sorted(folder.glob("*/report.html"))] == [
        "01-1", "02-2", "03-4", "04-3", "05-2.5", "06-2.8", "07-2.6",
    ]  # fmt: skip
    assert (folder / "report.html").is_file()


def test_a_capacity_that_is_not_found_has_its_exit_code(locust: Locusts, state: Path) -> None:
    locust.limit = 0.0
    answer = call("capacity", "--state", state, "--json")
    assert answer.exit_code == 1
    assert json.loads(answer.stdout)["holds_at"] is None
    locust.wrong = [NotLoadedError("Locust ended")]
    answer = call("capacity", "--state", state)
    assert answer.exit_code == 2
    assert "not measured Locust ended" in answer.stderr


def test_runs_that_pile_up_are_the_reason_where_they_are(locust: Locusts, state: Path) -> None:
    def piled(load: Load) -> list[Entry]:
        return [entry for entry in Locusts()._entries(load) if entry.name != "complete" or entry.at < 12]

    locust.entries = piled
    answer = call("capacity", "--steps", "1", "--seconds", "10", "--state", state)
    assert answer.exit_code == 1
    assert "0.20 of 1.00 runs a second ended" in answer.stderr


def test_runs_of_an_earlier_load_are_awaited_first(
    locust: Locusts, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_: object) -> None:
        raise NotLoadedError("3 open")

    monkeypatch.setattr(capacity, "settle", never)
    answer = call("capacity", "--state", state)
    assert (answer.exit_code, locust.loads) == (2, [])
    assert "3 open" in answer.stderr


def test_the_objectives_are_shown_and_their_alerts_printed() -> None:
    assert "completion_latency" in call("objectives").stdout
    assert json.loads(call("objectives", "--json").stdout)["objectives"]["freshness"]["target"] == 99
    assert call("objectives", "--alerts").stdout == ALERTS.read_text()


def test_a_terminal_shows_a_bar(locust: Locusts, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Console] = []

    def terminal(*_: Any, **options: Any) -> Console:
        shown.append(Console(force_terminal=True, **options))
        return shown[-1]

    monkeypatch.setattr(commands, "Console", terminal)
    answer = call("run", "--state", state)
    assert answer.exit_code == 0
    assert shown[0].is_terminal
