"""The fault matrix: every row, the experiments that cover it, and what reports say of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos.experiment import EXPERIMENTS, Experiment, read
from chaos.report import VERDICT, Report, ReportMissing
from chaos.verdict import Answer, worst

__all__ = ["REPEATS", "ROWS", "Row", "Standing", "covering", "lacking", "reports_in", "standings"]

REPEATS = 3
"""How often each experiment is to be repeated."""


@dataclass(frozen=True)
class Row:
    """A kind of fault that a deployment may meet."""

    name: str
    fault: str
    must: bool = True
    beside: str = ""
    """What shows the part of it that no experiment does, or why nothing does."""


ROWS = (
    Row(
        "P1",
        "SIGKILL of a worker: between steps, in the middle of a tool call, at every crash point",
        beside="every step at every crash point: `holdfast chaos grid`",
    ),
    Row("P2", "SIGSTOP of a worker, a sidecar, PostgreSQL, Patroni or a region, which goes on later as a zombie"),
    Row("P3", "a region drained in good order; a rolling deploy, the regions at different releases meanwhile"),
    Row("P4", "a worker without memory, processor time or file descriptors", must=False),
    Row("N1", "a full partition between the regions: the witness sees both, only a, only b"),
    Row("N2", "a one-way drop; a black hole instead of a reset"),
    Row("N3", "latency of 20, 60 and 150 ms with jitter, a narrow line to the standby"),
    Row(
        "N4",
        "a stale or failing name of the database",
        must=False,
        beside="none: on this target no part resolves a name, each is told an address and a port",
    ),
    Row("N5", "a storm of connection resets after a change of roles"),
    Row("S1", "PostgreSQL's primary killed, stopped in good order, crashing again and again"),
    Row("S2", "the synchronous standby lost"),
    Row("S3", "a client that goes away while its commit waits for the standby, then a failover"),
    Row("S4", "both database nodes lost together"),
    Row(
        "S5",
        "a full disk, a read-only file system",
        must=False,
        beside="none: it takes a file system of its own, which an unprivileged user of this target can't mount",
    ),
    Row("S6", "a standby that applies nothing; timelines that diverge, and a rewind"),
    Row("D1", "placement killed; sidecars that come and go"),
    Row("D2", "the scheduler killed in the middle of a request; every reminder wiped"),
    Row(
        "D3",
        "Sentry down; another root in the standby",
        beside="another root: planted bug `wrong-root`, which K10 and K11 catch. Rotating issuer and root: nothing",
    ),
    Row("D4", "a sidecar killed without its worker, and the reverse"),
    Row("D5", "the witness lost; the lease store's leader moved, its quorum lost"),
    Row("R1", "every process of the active region lost at once"),
    Row("R2", "the lost region returns as a zombie: late writes, late tool calls"),
    Row("R3", "failover, failback, failover; a failover during a failover; flapping"),
    Row("R4", "a planned switchover under load"),
    Row(
        "C1",
        "one region's clock jumps by a minute",
        must=False,
        beside="none: all processes of this target share one clock, and Go's programs can't be given another",
    ),
    Row("A1", "the model's provider refuses, fails, hangs, is slow, breaks off, talks nonsense, is replaced"),
    Row("A2", "a tool's effect applied, its reply lost"),
    Row("A3", "an answer over the sidecar's message limit; code that does something else on replay"),
    Row("A4", "a person's decision, and a durable timer that is due, during a failover"),
    Row("A5", "starts under one id, in both regions at once"),
    Row("O1", "operators' mistakes: promotion without fencing, a live run purged, wrong settings, an old certificate"),
    Row("L1", "ten times the load at once; a herd of runs that resume together"),
    Row("X1", "a history changed in the database"),
    Row("X2", "a sidecar without certificate, with another root, with another's name"),
    Row("X3", "a tool call that the access policy denies"),
    Row("X4", "a write, an effect or a call with a stale epoch or a used token"),
    Row("X5", "database, lease store, Patroni and supervisors approached without credentials"),
)


@dataclass(frozen=True)
class Standing:
    """What the reports of one experiment say, the oldest first."""

    experiment: Experiment
    reports: Sequence[Report]
    repeats: int = REPEATS

    @property
    def lacks(self) -> int:
        """How many repeats are lacking."""
        return max(0, self.repeats - len(self.reports))

    @property
    def answer(self) -> Answer:
        """The worst of its last repeats, and of all that tested the same code as one of them.

        So an answer that isn't valid stands until other code was seen to be valid as often as is asked for.
        Too few are unknown, unless one of them is invalid.
        """
        versions = {one.verdict.version for one in self.reports[-self.repeats :]}
        answers: list[Answer] = [one.verdict.answer for one in self.reports if one.verdict.version in versions]
        short: list[Answer] = ["unknown"] if self.lacks else []
        return worst(answers + short)


def reports_in(folders: Iterable[Path]) -> tuple[list[Report], list[Path]]:
    """Every report in these folders, or that one of them is, the oldest first; and what was begun and not judged."""
    found: dict[Path, Report] = {}
    broken: set[Path] = set()
    for folder in folders:
        own = [folder] if (folder / VERDICT).exists() else [one for one in folder.iterdir() if one.is_dir()]
        for one in {path.resolve() for path in own}:
            try:
                found[one] = Report.load(one)
            except ReportMissing:
                broken.add(one)
    clean = (one for one in found.values() if one.verdict.planted is None)
    return sorted(clean, key=lambda one: one.folder.name), sorted(broken, key=lambda one: one.name)


def standings(experiments: Iterable[Experiment], reports: Sequence[Report], repeats: int = REPEATS) -> list[Standing]:
    """How each of these experiments stands, by these reports."""
    return [
        Standing(one, [report for report in reports if report.verdict.experiment == one.name], repeats)
        for one in experiments
    ]


def lacking(standing: Sequence[Standing]) -> list[Experiment]:
    """What is to be run still, in rounds: what has been seen least comes first. An answer is no reason to run again."""
    rounds = range(max((one.repeats for one in standing), default=0))
    return [one.experiment for number in rounds for one in standing if len(one.reports) <= number < one.repeats]


def covering(row: Row) -> list[Experiment]:
    """The experiments that cover a row."""
    return [one for one in map(read, EXPERIMENTS) if row.name in one.rows]
