"""Each run of the grid dies once at its point, and what was not struck is told."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from holdfast.client import RunView, StepView

from chaos import grid
from chaos.checks.claims import claims_hold
from chaos.crashpoints import CRASHES, EFFECTS, FOLDER, PLAN, POINTS
from chaos.grid import PLANT, Cell, Grid, cells_of, ticket
from chaos.history import Fault, History
from infra.manifest import Manifest
from tests.support.deployments import manifest

pytestmark = pytest.mark.unit

STEPS = [(1, "model"), (2, "lookup_order"), (9, "add_note")]


def test_every_step_passes_every_point_and_only_effects_those_of_effects() -> None:
    cells = cells_of(STEPS)
    everywhere = [point for point in POINTS if not point.effects_only]
    assert len(cells) == 2 * len(everywhere) + len(POINTS)
    assert len(set(cells)) == len(cells)
    assert {cell.step for cell in cells if cell.point == "after-effect"} == {"add_note"}


def test_the_desk_has_the_tools_that_change_the_world() -> None:
    from refund_desk.agent import build_agent
    from refund_desk.effects import MemoryEffects

    agent = build_agent("test", MemoryEffects())
    assert agent._function_toolset.tools.keys() >= EFFECTS


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The plant, in a process that survives its death."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("chaos.plants.hook.after_import", lambda name, patch: None)
    spec = importlib.util.spec_from_file_location("crashpoints_plant", FOLDER / "sitecustomize.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.os, "kill", lambda pid, number: None)
    return module


def deaths() -> list[tuple[str, int, str]]:
    path = Path(CRASHES)
    lines = path.read_text().splitlines() if path.exists() else []
    return [(one["run_id"], one["ordinal"], one["point"]) for one in map(json.loads, lines)]


def test_a_worker_dies_where_the_plan_says_and_never_again(planted: ModuleType) -> None:
    Path(PLAN).write_text(json.dumps({"run-1": ["ended", 4]}))
    for where in [("run-1", 4, "begun"), ("run-1", 5, "ended"), ("run-2", 4, "ended")]:
        planted._die(*where)
    assert deaths() == []
    planted._die("run-1", 4, "ended")
    planted._die("run-1", 4, "ended")
    assert deaths() == [("run-1", 4, "ended")]
    assert json.loads(Path(CRASHES).read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("text", [None, "", "nonsense"])
def test_without_a_plan_nobody_dies(planted: ModuleType, text: str | None) -> None:
    if text is not None:
        Path(PLAN).write_text(text)
    planted._die("run-1", 4, "ended")
    assert deaths() == []


def passed(
    planted: ModuleType, patch: Callable[[Any], None], module: Any, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """The points that what the module does passes once it is patched."""
    points: list[str] = []
    monkeypatch.setattr(planted, "_die", lambda run_id, ordinal, point: points.append(f"{run_id}:{ordinal} {point}"))
    patch(module)
    return points


def test_a_turn_passes_its_points(planted: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def action(text: str, scheduled: bool = True) -> Any:
        return SimpleNamespace(
            HasField=lambda name: scheduled, scheduleTask=SimpleNamespace(input=SimpleNamespace(value=text))
        )

    asked = [action('{"run": "run-1", "ordinal": 4}'), action("", scheduled=False), action(""), action('{"other": 1}')]

    class Turns:
        def turn(self, request: object, history: object) -> Any:
            return SimpleNamespace(actions=asked)

        def execute(self, *_: object) -> None:
            self.turn(None, [])
            points.append("sent")

    module = SimpleNamespace(Turns=Turns, _dropping=lambda execute: execute)
    points = passed(planted, planted._turns, module, monkeypatch)
    module.Turns().execute()
    assert points == ["run-1:4 turn-decided", "sent", "run-1:4 turn-sent"]
    module._dropping(lambda: None)()
    assert len(points) == 3


def test_an_operation_passes_its_points_in_order(planted: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = SimpleNamespace(run_id="run-1", ordinal=4)

    class OperationHost:
        def _tell(self, operation: object, phase: str, *, joined: bool = False) -> None:
            points.append(phase)

    class Deliveries:
        def handle(self, task: object, delivered: object, body: object) -> str:
            for phase in ("started", "ended"):
                OperationHost()._tell(operation, phase)
            OperationHost()._tell(operation, "started", joined=True)
            return "answer"

    turns = SimpleNamespace(Turns=SimpleNamespace(turn=None, execute=None), _dropping=lambda execute: execute)
    module = SimpleNamespace(Deliveries=Deliveries, OperationHost=OperationHost)
    points = passed(planted, planted._host, module, monkeypatch)
    planted._turns(turns)
    turns._dropping(lambda: Deliveries().handle(None, {"run": "run-1", "ordinal": 4}, None))()
    assert points == [
        "run-1:4 delivered",
        "started",
        "run-1:4 begun",
        "ended",
        "run-1:4 ended",
        "started",
        "run-1:4 answered",
        "run-1:4 reported",
    ]


@pytest.mark.anyio
async def test_an_effect_passes_its_points(planted: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    class HttpEffects:
        async def apply(self, kind: str, payload: object) -> str:
            points.append("made")
            return "answer"

    operation = SimpleNamespace(run_id="run-1", ordinal=9)
    module = SimpleNamespace(HttpEffects=HttpEffects, current_operation=lambda: operation)
    points = passed(planted, planted._effects, module, monkeypatch)
    assert await module.HttpEffects().apply("notes", {}) == "answer"
    assert points == ["run-1:9 before-effect", "made", "run-1:9 after-effect"]


class ToldSession:
    """A deployment in which the runs of a plan die as told."""

    def __init__(self, place: Manifest, survives: set[str]) -> None:
        self.manifest, self.survives = place, survives
        self.injected: list[Fault] = []
        self.claims: list[Any] = []
        self.prefix, self.began, self.runs = "d-", 0.0, 1
        self.client = self

    def wait_healthy(self, seconds: float) -> None:
        """It is."""

    def start(self, run_id: str, payload: object) -> Any:
        return SimpleNamespace(outcome="ok")

    def run(self, run_id: str) -> RunView:
        return RunView(run_id=run_id, status="completed", accepted_at="")

    def steps(self, run_id: str) -> list[StepView]:
        return [
            StepView(ordinal=ordinal, kind="tool", name=name, attempt=1, started="")
            for ordinal, name in [*STEPS, STEPS[0]]
        ]

    def begin_load(self, tickets: object) -> None:
        folder = self.manifest.regions["a"].attempts_dir
        plan = json.loads((folder / PLAN).read_text())
        assert len(plan) == self.runs
        with (folder / CRASHES).open("w") as file:
            file.write(
                json.dumps({"run_id": "of another grid", "ordinal": 1, "point": "ended", "at": 1, "pid": 1}) + "\n"
            )
            for number, (run_id, (point, ordinal)) in enumerate(plan.items()):
                if point not in self.survives:
                    died = {"run_id": run_id, "ordinal": ordinal, "point": point, "at": 100.0 - number, "pid": 2**30}
                    file.write(json.dumps(died) + "\n")

    def wait(self, what: str, look: Callable[[], object], seconds: float) -> object:
        if not (found := look()):
            raise TimeoutError(what)
        return found

    def end_load(self) -> None:
        """No more."""

    def wait_ended(self) -> None:
        """They have."""


def play(tmp_path: Path, survives: set[str]) -> tuple[ToldSession, list[str]]:
    place = manifest(tmp_path)
    for region in place.regions.values():
        region.attempts_dir.mkdir(parents=True)
    session, said = ToldSession(place, survives), []
    Grid(session, ticket()).play(said.append)  # type: ignore[arg-type]
    return session, said


def test_every_death_is_a_fault_with_its_process_in_order(tmp_path: Path) -> None:
    session, said = play(tmp_path, set())
    cells = cells_of(STEPS)
    assert len(session.injected) == len(cells)
    assert [one.at for one in session.injected] == sorted(one.at for one in session.injected)
    assert all(one.proven and one.killed == [2**30] for one in session.injected)
    assert {one.target for one in session.injected} == {f"{cell.point} of {cell.step}" for cell in cells}
    history = History(experiment="grid", claims=session.claims)
    assert claims_hold(history).answer == "valid"
    assert said[-1].startswith(f"{len(cells)} of {len(cells)} cells")


def test_a_cell_that_was_not_struck_leaves_the_grid_unknown(tmp_path: Path) -> None:
    session, _ = play(tmp_path, {"after-effect"})
    answer = claims_hold(History(experiment="grid", claims=session.claims))
    assert answer.answer == "unknown"
    assert "add_note (9) after-effect" in answer.witness[0]


def test_the_plant_is_a_folder_that_python_loads() -> None:
    assert (PLANT.folder / "sitecustomize.py").is_file()
    assert ticket().ticket_id == grid.TICKET
    assert Cell(1, "model", "ended") in cells_of(STEPS)
