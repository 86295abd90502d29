"""Where a process may die in the course of a run, and a run whose process dies there.

What dies is the worker with all that it has in memory, its agent too; what stays is the engine's store, with the
wake-ups that have not been served. No switch in the library says where: the engine and the store are stand-ins, and
the rest is told of by the library's own hook for attempts.
"""

from __future__ import annotations

import time
from enum import StrEnum
from functools import cache
from itertools import cycle
from typing import Any

import pytest
from pydantic_ai_dapr import Attempt, DaprWorkflowAgentRunner
from pydantic_ai_dapr.confirmation import Asked, Confirmations
from pydantic_ai_dapr.host import opened
from pydantic_ai_dapr.journal import Journal, Segment
from pydantic_ai_dapr.payloads import Payloads, Reference
from pydantic_core import to_jsonable_python

from tests.support.durable_agents import DurableRun, Worker
from tests.support.scenarios import Scenario
from tests.support.spans import RECORDER
from tests.support.workflow_engine import Event


class Point(StrEnum):
    """Each is passed once by every operation, every turn or every cut of a run."""

    BODY = "before an operation's body"
    EXECUTED = "after an operation's body, before its answer is remembered"
    REMEMBERED = "after an answer is remembered, before its turn is known to be saved"
    CONFIRMED = "after an answer's turn is known to be saved, before it is given"
    GIVEN = "after an answer was given"
    SENT = "before a turn is sent"
    LOST = "after a turn's activities were executed, before it is saved"
    SAVED = "after a turn is saved, before its activities are delivered"
    WOKEN = "after a turn is saved, with all wake-ups"
    CUT = "before a segment is written"
    WRITTEN = "after a segment is written, before the cut is saved"
    CONTINUED = "after a cut is saved"


CUTS = {Point.CUT, Point.WRITTEN, Point.CONTINUED}


class Killed(BaseException):
    """Here the process has died."""


class CrashingRun(DurableRun):
    """A durable run of a scenario whose process dies at `point`: at the `number`-th boundary, or once at every one.

    `passed` has the boundaries that it came to; `repeated` are executions of what had been answered before.
    """

    def __init__(self, scenario: Scenario, point: Point, number: int | None = None) -> None:
        self.scenario, self.point, self.number = scenario, point, number
        self.passed, self.is_dying = list[object](), False
        self.given: set[tuple[str, int]] = set()
        self.repeated: list[Attempt] = []
        self.processes = cycle(processes(scenario, 1 if point in CUTS else 100))
        prompt = to_jsonable_python(scenario.prompt)
        super().__init__(self.processes, prompt=prompt, deps=scenario.deps, arguments=scenario.wire)

    def finish(self) -> Any:
        while not self.engine.ended:
            if self.engine.inbox or not self.engine.history:
                self._turn()
            engine = self.engine
            assert engine.ended or engine.wakeups or engine.inbox or not engine.history, "nothing can happen any more"
            for number in list(self.engine.wakeups):
                self._serve(number)
        return super().finish()

    def runner_of(self, agent: Any) -> DaprWorkflowAgentRunner[Any, Any]:
        return next(self.processes)

    def journal(self) -> Journal:
        return _Journal(self)

    def make_worker(self) -> Worker:
        return Worker(
            *(self.runner, self.engine, self.values, self.attempts),
            on_attempt=self._attempted,
            confirmations=lambda *asks: _Confirmations(self, *asks),
        )

    def reaches(self, point: Point, boundary: object = None) -> bool:
        """Whether the process dies here, at this point; a boundary is an operation, or how far the run has come."""
        boundary = boundary or sum(one.kind in ("completed", "fired") for one in self._history())
        if point is not self.point or boundary in self.passed:
            return False
        self.passed.append(boundary)
        return self.number in (None, len(self.passed))

    def executions(self) -> set[tuple[str, int, str]]:
        """What was executed: operations' keys, attempts and names."""
        return {(attempt.key, attempt.attempt, attempt.name) for attempt in self.attempts}

    def await_answer(self, asked: Asked) -> None:
        """Return once the worker has executed and remembers what was asked."""
        deadline = time.monotonic() + 10
        task = next(one for one in self.engine.wakeups.values() if one.id == asked.task.number)
        while not self.worker.operations.remembers(opened(asked.task.instance_id, task.value)):
            assert time.monotonic() < deadline, f"{task.value['name']} was not executed in 10 s"
            time.sleep(0.0002)

    def _turn(self) -> None:
        executions, before = self.engine.executions, self.engine.saved()
        try:
            self.engine.turn()
            if self.reaches(Point.SENT):
                raise Killed
            if self.engine.wakeups and not self.engine.ended and self.reaches(Point.LOST):
                self.is_dying = True
                for task in self.engine.wakeups.values():
                    self._execute_in_vain(task)
                raise Killed
        except Killed:
            vars(self.engine).update(before)
            self._die()
            return
        except Exception:
            if not self.reaches(Point.SENT):
                raise
            vars(self.engine).update(before)
            self._die()
            return
        if self.engine.ended:
            return
        if self.reaches(Point.SAVED) or (self.engine.executions > executions and self.reaches(Point.CONTINUED)):
            self._die()
        elif self.reaches(Point.WOKEN):
            self._die()
            self.engine.fail_over(f"epoch {len(self.passed)}")
            self._turn()

    def _serve(self, number: int) -> None:
        task = self.engine.wakeups[number]
        if task.kind == "timer":
            self.engine.serve(number, self.serve)
            return
        operation = (f"{task.value['run']}:{task.value['ordinal']}", task.value["attempt"])
        try:
            answer = self.deliver(task)
            if self.reaches(Point.CONFIRMED, operation):
                raise Killed
        except Killed:
            self._die()
            return
        del self.engine.wakeups[number]
        self.engine.inbox.append(Event("completed", number, value=answer))
        self.given.add(operation)
        if self.reaches(Point.GIVEN, operation):
            self._die()

    def _execute_in_vain(self, task: Event) -> None:
        if task.kind != "timer":
            with pytest.raises(Killed):
                self.deliver(task)

    def _attempted(self, attempt: Attempt) -> None:
        operation = (attempt.key, attempt.attempt)
        if attempt.phase == "started" and operation in self.given:
            self.repeated.append(attempt)
        if self.reaches(Point.BODY if attempt.phase == "started" else Point.EXECUTED, operation):
            raise Killed

    def _history(self) -> list[Event]:
        return self.engine.earlier + self.engine.history

    def _die(self) -> None:
        RECORDER.forget({(attempt.key, attempt.attempt) for attempt in self.attempts} - self.given)
        self.is_dying = False
        self.engine.workflow = self.host(self.processes)
        self.replace_worker()


@cache
def processes(scenario: Scenario, segment_answers: int) -> list[DaprWorkflowAgentRunner[Any, Any]]:
    """Two processes that host the scenario's agent, each with one of its own: where one dies, the other goes on."""
    options: dict[str, Any] = {"name": "agent", "port": 1, "segment_answers": segment_answers}
    return [DaprWorkflowAgentRunner(scenario.make(), **options) for _ in range(2)]


class _Journal(Journal):
    def __init__(self, run: CrashingRun) -> None:
        super().__init__(Payloads(run.values), lambda instance_id: [])
        self._run = run

    def append(self, instance_id: str, segment: Segment, previous: Reference | None) -> Reference:
        if self._run.reaches(Point.CUT):
            raise Killed
        reference = super().append(instance_id, segment, previous)
        if self._run.reaches(Point.WRITTEN):
            raise Killed
        return reference


class _Confirmations(Confirmations):
    def __init__(self, run: CrashingRun, *asks: Any) -> None:
        super().__init__(*asks)
        self._run = run

    def wait(self, asked: Asked) -> None:
        if self._run.reaches(Point.REMEMBERED, asked.task.execution_id) or (
            self._run.point is Point.LOST and self._run.is_dying
        ):
            self._run.await_answer(asked)
            raise Killed
        super().wait(asked)
