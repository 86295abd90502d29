"""Every fault there is. To add one: a kind with a name, a sentence and what it needs, and a line in this list."""

from __future__ import annotations

from chaos.faults.data import (
    Diverge,
    LoseDatabase,
    MoveLeaseLeader,
    PauseReplay,
    ResetSessions,
    Switchover,
    WipeReminders,
)
from chaos.faults.kind import FaultKind
from chaos.faults.links import Flap, Links
from chaos.faults.operators import ExpireCertificate, FailOverByHand, PromoteByHand, Starve, Throttle
from chaos.faults.outside import LoseReplies, ModelTrouble
from chaos.faults.processes import (
    CrashLoop,
    Freeze,
    Kill,
    KillTogether,
    RollingRestart,
    Stop,
    Stutter,
    WorkerCrash,
    WorkerCrashAfterStep,
)
from chaos.faults.releases import Deploy
from chaos.faults.tampering import TamperHistory
from chaos.faults.target import Ability, Disturbance

__all__ = ["FAULTS", "fault_named"]

_CUT, _DROP = Disturbance("cut"), Disturbance("drop")

_ALL: tuple[FaultKind, ...] = (
    # Processes are killed.
    WorkerCrash(),
    WorkerCrashAfterStep(),
    Kill("region-loss", "Every process of the region is killed at once, its supervisor first", "everything", True),
    Kill("region-loss-at-once", "Every process of the region is killed at once, whatever it is doing", "everything"),
    Kill("kill-workers", "Every worker of the region is killed at once", "worker", True),
    Kill("kill-sidecars", "Every sidecar of the region is killed, their workers live on", "sidecar", True),
    KillTogether(
        "kill-workers-and-sidecars",
        "Every worker and every sidecar of the region is killed at once",
        ((None, "worker"), (None, "sidecar")),
        in_doubt=True,
    ),
    Kill("kill-database", "PostgreSQL is killed, Patroni lives on", "database", True),
    Kill("kill-patroni", "Patroni is killed, PostgreSQL lives on", "patroni"),
    Kill("kill-lease-store", "The member of the lease store is killed", "lease-store"),
    Kill("kill-placement", "Dapr's placement is killed", "placement"),
    Kill(
        "kill-scheduler", "Dapr's scheduler is killed in the middle of its work, and keeps its data", "scheduler", True
    ),
    Kill("kill-sentry", "Dapr's certificate authority is killed", "sentry"),
    Kill("kill-region-agent", "The region agent is killed", "region-agent"),
    Kill("kill-api", "The HTTP API is killed", "api"),
    Kill("witness-loss", "Every process of the witness is killed at once", "everything"),
    KillTogether(
        "lose-both-databases",
        "PostgreSQL and Patroni of both regions are killed at once, and stay down",
        (("a", "patroni"), ("b", "patroni"), ("a", "database"), ("b", "database")),
        stays_down=True,
        in_doubt=True,
    ),
    CrashLoop("crash-loop-database", "PostgreSQL is killed again whenever it comes back", "database"),
    CrashLoop("churn-sidecars", "Sidecars are killed again whenever they come back", "sidecar"),
    # Processes are frozen.
    Freeze("freeze-worker", "One worker stands still, with an effect in hand where one is seen", "worker", True, True),
    Freeze("freeze-sidecar", "One sidecar stands still", "sidecar", one=True),
    Freeze("freeze-database", "PostgreSQL stands still, Patroni does not", "database"),
    Freeze("freeze-patroni", "Patroni stands still, PostgreSQL does not", "patroni"),
    Freeze("freeze-region", "Every process of the region stands still", "everything", in_doubt=True),
    Freeze("freeze-region-agent", "The region agent stands still", "region-agent"),
    Freeze("freeze-scheduler", "Dapr's scheduler stands still", "scheduler"),
    Stutter(),
    # Processes are stopped.
    Stop("stop-database", "Patroni and PostgreSQL are stopped as by an operator", "patroni"),
    Stop("drain-region", "Every process of the region is stopped as by an operator", "everything"),
    Stop("stop-lease-store", "The member of the lease store is stopped", "lease-store"),
    Stop("stop-scheduler", "Dapr's scheduler is stopped, and keeps its data", "scheduler"),
    Stop("stop-sentry", "Dapr's certificate authority is stopped", "sentry"),
    Stop("stop-placement", "Dapr's placement is stopped", "placement"),
    RollingRestart(),
    # Links.
    Links("isolate", "The place is cut off from both others", "around", _CUT),
    Links("isolate-silently", "What the place sends and gets vanishes, in a black hole", "around", _DROP),
    Links("split", "The regions are cut off from each other, the witness reaches both", "between regions", _CUT),
    Links("split-silently", "What the regions say to each other vanishes", "between regions", _DROP),
    Links("mute", "What the place sends vanishes, what it gets arrives", "from", _DROP),
    Links("deafen", "What the place gets vanishes, what it sends arrives", "to", _DROP),
    Links("cut-replication", "The standby's stream is cut, all else arrives", "between regions", _CUT, "postgres"),
    Links("stall-replication", "The standby's stream vanishes, all else arrives", "between regions", _DROP, "postgres"),
    Links(
        "narrow-replication",
        "The standby's stream is 64 KB/s wide",
        "between regions",
        Disturbance("throttle", rate=64),
        "postgres",
    ),
    *(
        Links(
            f"latency-{trip}",
            f"{trip} ms of round trip between the regions, with jitter",
            "between regions",
            Disturbance("delay", delay=trip // 2, jitter=max(1, trip // 10)),
        )
        for trip in (20, 60, 150)
    ),
    Links(
        "reset-links",
        "Every connection from and to the place is reset as soon as it is made",
        "around",
        Disturbance("reset"),
    ),
    Flap(),
    # What is stored and decided.
    PauseReplay(),
    Diverge(),
    ResetSessions(),
    WipeReminders(),
    LoseDatabase(),
    MoveLeaseLeader(),
    Switchover(),
    TamperHistory(),
    # Operators' mistakes, and what runs out.
    PromoteByHand(),
    FailOverByHand(),
    ExpireCertificate(),
    Starve("starve-api", "The API can open no further file", "api"),
    Starve("starve-worker", "One worker can open no further file", "worker"),
    Starve("starve-worker-of-memory", "One worker gets no further memory", "worker", "memory"),
    Throttle("throttle-worker", "One worker gets a twentieth of a processor for 15 s", "worker"),
    # Deploys.
    Deploy(
        "deploy-next",
        "The next release is deployed: what has begun goes on in the old way",
        "chaos.releases:next_release",
        fits=True,
    ),
    Deploy(
        "deploy-careless",
        "Code is deployed that does something else, also in the runs that are under way",
        "chaos.releases:careless_release",
        fits=False,
    ),
    # The world outside.
    ModelTrouble("model-refuses", "Every model provider answers 429, with a Retry-After of 2 s", "refusing", 2.0),
    ModelTrouble("model-fails", "Every model provider answers 503", "failing"),
    ModelTrouble(
        "model-hangs", "Every model provider leaves the next requests without an answer", "hanging", 60.0, 8, 8
    ),
    ModelTrouble("model-slow", "Every model provider takes 3 s longer", "slow", 3.0),
    ModelTrouble("model-cut", "The connection breaks in the middle of a model's answers", "cut"),
    ModelTrouble("model-garbled", "The JSON of a model's answers ends in the middle", "garbled"),
    ModelTrouble(
        "model-malformed", "The arguments of a model's next tool calls end in the middle", "malformed", 0.0, 6, 6
    ),
    ModelTrouble("model-oversized", "A model's next answers have 5 MB each", "oversized", 0.0, 2, 2),
    ModelTrouble("provider-down", "The first of two model providers answers 503", "failing", providers=("first",)),
    LoseReplies(),
    LoseReplies(
        60, "lose-many-replies", "Payments applies effects, and replies to none until its callers have given up"
    ),
)

FAULTS: dict[str, FaultKind] = {kind.name: kind for kind in _ALL}


def fault_named(name: str) -> FaultKind:
    """The fault of that name. Raises KeyError, which names what there is."""
    try:
        return FAULTS[name]
    except KeyError:
        raise KeyError(f"there is no fault {name!r}; there are {', '.join(sorted(FAULTS))}") from None


def abilities(names: list[str]) -> frozenset[Ability]:
    """What a target has to be able to do for these faults."""
    return frozenset(ability for name in names for ability in fault_named(name).needs)
