"""What was recorded of an experiment: typed, on disk, and enough to judge it again later."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue

TERMINAL = frozenset({"completed", "failed", "terminated"})
"""The states in which a run has ended."""


class Record(BaseModel):
    """Base of what is recorded. Times are Unix seconds of the one clock of this machine."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class ClientOperation(Record):
    """A client's start of a run. `unknown`: no answer, so it may have been accepted."""

    run_id: str
    ticket: dict[str, JsonValue]
    invoked_at: float
    answered_at: float
    outcome: Literal["ok", "refused", "unknown"]
    region: str
    detail: str = ""


class Effect(Record):
    """One line of the payments ledger."""

    seq: int
    at: float
    key: str
    kind: str
    run_id: str
    region: str
    epoch: int
    worker: str
    attempt: int
    outcome: str


class Attempt(Record):
    """A worker says that it began or ended to execute an operation."""

    phase: Literal["started", "ended"]
    run_id: str
    ordinal: int
    kind: str
    name: str
    attempt: int
    at: float
    outcome: str | None = None
    joined: bool = False
    region: str
    epoch: int
    worker: str
    pid: int


class HistoryItem(Record):
    """One event of a workflow's history.

    Of a scheduled operation: `ordinal`, `kind`, `name`, `attempt`, and the model's `call_id` for a tool call. Of its
    answer: `ok`, and the `tokens` of a model request. Of a timer: when it is `due`. Of an event from outside: its
    `name`, and whether it said yes (`ok`).
    """

    sequence: int
    type: str
    at: float
    task_id: int | None = None
    ordinal: int | None = None
    ok: bool | None = None
    kind: str | None = None
    name: str | None = None
    attempt: int | None = None
    call_id: str | None = None
    tokens: int | None = None
    due: float | None = None


class Workflow(Record):
    """A run at the end of the experiment. `status` is None where nobody could tell."""

    run_id: str
    status: str | None
    output: JsonValue = None
    error: str | None = None
    history: list[HistoryItem] | None = None


class AgentEvent(Record):
    """A region agent's event."""

    model_config = ConfigDict(extra="allow", frozen=True)

    region: str
    at: float
    event: str

    def member(self, name: str) -> JsonValue:
        """A member that only some events have."""
        return (self.model_extra or {}).get(name)


class Fault(Record):
    """A fault that was injected, with the evidence that it was in force until it was lifted, if it was.

    `killed` and `frozen` are processes. `cut_off` are the regions that nobody could tell to stop meanwhile, because
    they were frozen, or severed from the rest: what they had in hand, they may end later. It struck `strikes` times.
    """

    name: str
    target: str
    at: float
    until: float | None = None
    killed: list[int] = Field(default_factory=list[int])
    frozen: list[int] = Field(default_factory=list[int])
    cut_off: list[str] = Field(default_factory=list[str])
    strikes: int = 1
    evidence: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    proven: bool = False


class Claim(Record):
    """What the experiment claims beside the checkers, and whether it held; None where nobody could tell."""

    claim: str
    at: float
    held: bool | None
    detail: str = ""


class Signal(Record):
    """A client's answer to a tool call that waits for a person. `unknown`: no reply, so it may have arrived."""

    run_id: str
    call_id: str
    approved: bool
    invoked_at: float
    answered_at: float
    outcome: Literal["ok", "refused", "unknown"]
    region: str
    detail: str = ""


class Observation(Record):
    """What a client was told of a run: the operations that had completed, with the tokens of its model requests."""

    run_id: str
    at: float
    region: str
    status: str
    ordinals: list[int] = Field(default_factory=list[int])
    tokens: dict[int, int] = Field(default_factory=dict[int, int])


class RoleSample(Record):
    """What a region said of itself at one moment; None where it, or that part of it, gave no answer.

    `agent` is the region agent's role and `epoch` its epoch; `database` is the node's role while it runs, `timeline`
    its own, `wal` its position in bytes, `lag` what it is behind in bytes, `lease` who holds the leader's lease.
    """

    at: float
    region: str
    agent: str | None = None
    epoch: int | None = None
    database: str | None = None
    timeline: int | None = None
    wal: int | None = None
    lag: int | None = None
    lease: str | None = None


class Replay(Record):
    """Whether the code does what a run's exported history says, in a fresh process. `same` is None: not replayable."""

    run_id: str
    same: bool | None
    actions: int = 0
    difference: str = ""


class Proof(Record):
    """Whether every event of a run's exported history is signed by who may. `proven` is None: nothing was exported."""

    run_id: str
    proven: bool | None
    events: int = 0
    signers: list[str] = Field(default_factory=list[str])
    reason: str = ""


class Intrusion(Record):
    """A deed that must be refused, at the door where it was tried, and what was answered."""

    name: str
    door: str
    expected: str
    observed: str
    refused: bool


class Bounds(Record):
    """What the experiment promised of itself: checked before anything is called valid.

    Evidence that was promised and is missing makes its check unknown; where it was not promised, and there is none,
    the check does not apply. Times are in seconds.
    """

    minimum_in_flight: int = 20
    minimum_in_doubt: int = 0
    minimum_before: int = 1
    minimum_after: int = 1
    """Starts that were accepted before the first fault, and after the last."""
    roles: bool = False
    observations: bool = False
    replays: int = 0
    proofs: int = 0
    timers: int = 0
    signals: int = 0
    intrusions: int = 0
    stuck_seconds: float = 30.0
    """The longest time without progress of a run that waits for nobody; faults that last are added to it."""
    late_seconds: float = 10.0
    """How much later than due a timer may fire, beside the time that recovery took."""
    clock_seconds: float = 1.0
    """By how much two clocks may differ."""
    model_calls_again: int = 1
    """Model requests that one strike of a fault may cost one run."""


class History(BaseModel):
    """Everything recorded. An empty list means that nothing was seen, None that nobody could look."""

    experiment: str
    version: str | None = None
    """The code that was tested, by its commit."""
    operations: list[ClientOperation] = Field(default_factory=list[ClientOperation])
    effects: list[Effect] | None = None
    attempts: list[Attempt] | None = None
    workflows: list[Workflow] | None = None
    events: list[AgentEvent] | None = None
    faults: list[Fault] = Field(default_factory=list[Fault])
    signals: list[Signal] | None = None
    observations: list[Observation] | None = None
    roles: list[RoleSample] | None = None
    replays: list[Replay] | None = None
    proofs: list[Proof] | None = None
    intrusions: list[Intrusion] | None = None
    claims: list[Claim] = Field(default_factory=list[Claim])
    bounds: Bounds = Bounds()
    recorded_at: float | None = None

    @property
    def accepted(self) -> list[ClientOperation]:
        """The starts that were acknowledged."""
        return [operation for operation in self.operations if operation.outcome == "ok"]

    @property
    def fault_at(self) -> float | None:
        """When the first fault was injected."""
        return min((fault.at for fault in self.faults), default=None)

    @property
    def tampered(self) -> set[str]:
        """Runs whose history was changed on purpose: what it says is no evidence, and they must be refused."""
        return {str(fault.evidence["tampered"]) for fault in self.faults if "tampered" in fault.evidence}

    def outage(self, fault: Fault) -> float:
        """Seconds from a fault until work began in a later epoch, or, where none followed, until it was lifted."""
        attempts = self.attempts or []
        epoch = max((attempt.epoch for attempt in attempts if attempt.at <= fault.at), default=0)
        later = (attempt.at for attempt in attempts if attempt.at > fault.at and attempt.epoch > epoch)
        return min(later, default=fault.until or fault.at) - fault.at

    def in_flight_at(self, at: float) -> set[str] | None:
        """The runs that were accepted before and had not ended; None where the workflows were not recorded."""
        if self.workflows is None:
            return None
        ended = {
            workflow.run_id
            for workflow in self.workflows
            if any(item.type == "executionCompleted" and item.at < at for item in workflow.history or [])
        }
        return {operation.run_id for operation in self.accepted if operation.answered_at < at} - ended

    def in_doubt_at(self, at: float) -> list[Effect] | None:
        """The effects that were applied, and whose callers did not know it yet; None without evidence."""
        if self.effects is None or self.attempts is None:
            return None
        mine = {operation.run_id for operation in self.operations}
        return in_doubt([effect for effect in self.effects if effect.run_id in mine], self.attempts, at)

    def save(self, folder: Path) -> None:
        """Write one JSONL file for each kind of record, and `experiment.json` for the rest."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in _LISTS:
            records: list[Record] | None = getattr(self, name)
            if records is not None:
                lines = "".join(record.model_dump_json() + "\n" for record in records)
                (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        head = self.model_dump_json(include={"experiment", "version", "bounds", "recorded_at"}, indent=1)
        (folder / "experiment.json").write_text(head + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> History:
        """The history that `save` wrote. A missing file is missing evidence."""
        history = cls.model_validate_json((folder / "experiment.json").read_bytes())
        for name, kind in _LISTS.items():
            path = folder / f"{name}.jsonl"
            if path.exists():
                # Only "\n" ends a line here: JSON leaves other line ends, which a ticket may hold, as they are.
                lines = filter(None, path.read_text("utf-8").split("\n"))
                setattr(history, name, [kind.model_validate_json(line) for line in lines])
        return history


def in_doubt(effects: Iterable[Effect], attempts: Iterable[Attempt], at: float) -> list[Effect]:
    """The effects that were applied before `at` by a run that ended no operation since, up to `at`."""
    known: dict[str, float] = {}
    for attempt in attempts:
        if attempt.phase == "ended" and attempt.at <= at:
            known[attempt.run_id] = max(attempt.at, known.get(attempt.run_id, 0.0))
    return [one for one in effects if one.outcome == "applied" and known.get(one.run_id, 0.0) < one.at <= at]


_LISTS: dict[str, type[Record]] = {
    "operations": ClientOperation,
    "effects": Effect,
    "attempts": Attempt,
    "workflows": Workflow,
    "events": AgentEvent,
    "faults": Fault,
    "signals": Signal,
    "observations": Observation,
    "roles": RoleSample,
    "replays": Replay,
    "proofs": Proof,
    "intrusions": Intrusion,
    "claims": Claim,
}

Kind = TypeVar("Kind", bound=Record)
