"""What the page draws, as compact JSON: lanes of roles, faults and events, and each run's executions with their lines.

A record's line in its JSONL file is its place in the history's list, from 1. Instants are whole milliseconds since
`begin`. A string that repeats is kept once in `texts`, and named by its place there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from math import inf

from pydantic import JsonValue

from chaos.checks.writers import Execution, executions
from chaos.history import TERMINAL, AgentEvent, Attempt, Fault, History
from chaos.report.lanes import stretches
from chaos.report.witness import Problem

EVENTS = {
    "early-release": "lease released",
    "promoted": "promoted",
    "activated": "active",
    "sweep-finished": "runs woken",
    "transition-failed": "transition failed",
    "sweep-failed": "sweep failed",
}
OK, CUT, OPEN, FAILED = range(4)
"""How an execution ended: with a result, with its process, nobody knows, with an error."""
CUT_SECONDS = 0.05
"""How long an execution without a known end is drawn."""

Row = list[JsonValue]


def trace(history: History, problems: Sequence[Problem], rto: float | None = None) -> dict[str, JsonValue] | None:
    """Everything that the page draws; None where nothing that has a time was recorded."""
    done = executions(history)
    instants = list(_instants(history, done))
    return _Trace(history, done, min(instants), max(instants)).drawn(problems, rto) if instants else None


class _Trace:
    def __init__(self, history: History, done: Sequence[Execution], begin: float, end: float) -> None:
        self._history, self._done, self._begin, self._end = history, done, begin, end
        seen = {one.region for one in (*done, *(history.events or []), *(history.roles or []))}
        self._regions = sorted(seen | {"a", "b"})
        self._texts: dict[str, int] = {}

    def drawn(self, problems: Sequence[Problem], rto: float | None) -> dict[str, JsonValue]:
        return {
            "begin": self._begin,
            "end": self._ms(self._end),
            "rto": None if rto is None else round(rto * 1000),
            "regions": list[JsonValue](self._regions),
            "roles": self._roles(),
            "faults": self._faults(),
            "events": self._events(),
            "runs": self._runs(),
            "problems": [
                [
                    self._text(one.check),
                    one.text,
                    one.run_id,
                    one.ordinal,
                    None if one.at is None else self._ms(one.at),
                    one.place,
                ]
                for one in problems
            ],
            "texts": list[JsonValue](self._texts),
        }

    def _roles(self) -> Row:
        found = stretches(self._history, self._done, self._regions, self._begin, self._end)
        return [
            [
                self._regions.index(one.region),
                self._text(one.role),
                self._ms(one.begin),
                self._ms(one.end),
                one.epoch,
                self._text(one.file),
                one.line,
            ]
            for one in found
        ]

    def _faults(self) -> Row:
        def until(fault: Fault) -> int | None:
            return None if fault.until is None else self._ms(fault.until)

        return [
            [self._text(one.name), self._text(one.target), self._ms(one.at), until(one), int(one.proven), line]
            for line, one in enumerate(self._history.faults, 1)
        ]

    def _events(self) -> Row:
        return [
            [self._regions.index(one.region), self._text(EVENTS[one.event]), self._ms(one.at), line]
            for line, one in enumerate(self._history.events or [], 1)
            if is_shown(one)
        ]

    def _runs(self) -> Row:
        history = self._history
        rows, effects = self._executions(), self._effects()
        starts: dict[str, Row] = {}
        for line, one in sorted(enumerate(history.operations, 1), key=lambda known: known[1].outcome != "ok"):
            starts.setdefault(one.run_id, [self._text(one.outcome), self._ms(one.answered_at), line])
        ends = {one.run_id: (line, one) for line, one in enumerate(history.workflows or [], 1)}
        found: Row = []
        for run_id in sorted(starts.keys() | rows.keys()):
            line, workflow = ends.get(run_id, (0, None))
            items = (workflow.history or []) if workflow else []
            ended = next((item.at for item in items if item.type == "executionCompleted"), None)
            status = (workflow.status or "unread") if workflow else "unknown"
            end: Row = [self._text(status), None if ended is None else self._ms(ended), line, int(status in TERMINAL)]
            error = workflow.error if workflow else None
            found.append([run_id, starts.get(run_id), end, error, rows[run_id], effects[run_id]])
        return found

    def _executions(self) -> dict[str, Row]:
        lines: dict[tuple[str, int, str, int, float], tuple[int, Attempt]] = {}
        for line, one in enumerate(self._history.attempts or [], 1):
            lines.setdefault((one.run_id, one.ordinal, one.phase, one.pid, one.at), (line, one))
        found: dict[str, Row] = defaultdict(list)
        for one in self._done:
            begun, attempt = lines[one.run_id, one.ordinal, "started", one.pid, one.began]
            ended, result = lines.get((one.run_id, one.ordinal, "ended", one.pid, one.ended), (0, None))
            state = OPEN if one.ended == inf else CUT if result is None else OK if result.outcome == "ok" else FAILED
            found[one.run_id].append(
                [
                    one.ordinal,
                    self._text(attempt.name),
                    self._regions.index(one.region),
                    self._text(f"{one.worker}, pid {one.pid}"),
                    one.epoch,
                    self._ms(one.began),
                    self._ms(_until(one)),
                    state,
                    attempt.attempt,
                    begun,
                    ended,
                ]
            )
        return found

    def _effects(self) -> dict[str, Row]:
        found: dict[str, Row] = defaultdict(list)
        for line, one in enumerate(self._history.effects or [], 1):
            found[one.run_id].append(
                [self._ms(one.at), self._text(one.kind), self._text(one.outcome), self._text(one.key), line]
            )
        return found

    def _text(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))

    def _ms(self, at: float) -> int:
        return round((at - self._begin) * 1000)


def is_shown(event: AgentEvent) -> bool:
    """Whether an event has a mark of its own; of a release only the one that was made."""
    return event.event in EVENTS and (event.event != "early-release" or event.member("decision") == "released")


def _instants(history: History, done: Sequence[Execution]) -> Iterator[float]:
    for one in history.operations:
        yield from (one.invoked_at, one.answered_at)
    for execution in done:
        yield from (execution.began, _until(execution))
    yield from (at for fault in history.faults for at in (fault.at, fault.until) if at is not None)
    yield from (event.at for event in history.events or [])


def _until(execution: Execution) -> float:
    return execution.ended if execution.ended != inf else execution.began + CUT_SECONDS
