"""What may be done to a deployment, whatever it runs on: primitives, named by what they do."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from pydantic import JsonValue

Place = Literal["a", "b", "w"]
"""A region, or the witness, as links name them."""

Part = Literal[
    "worker",
    "sidecar",
    "database",
    "patroni",
    "lease-store",
    "placement",
    "scheduler",
    "sentry",
    "region-agent",
    "api",
    "observer",
    "everything",
]
"""Processes by what they are. `database` is PostgreSQL without Patroni; `everything` is the whole place."""

Line = Literal["postgres", "patroni", "etcd-peer", "etcd-client", "observer"]
Ability = Literal[
    "kill",
    "freeze",
    "stop",
    "links",
    "sql",
    "reminders",
    "lease",
    "switchover",
    "provider",
    "replies",
    "limits",
    "certificates",
    "deploy",
]
Resource = Literal["files", "memory"]
Service = Literal["payments", "provider"]
"""A simulated service of the world outside both regions."""
Moment = Callable[[], set[str]]
"""Returns when it is time to strike; it may name the workers in the middle of an effect."""


def at_once() -> set[str]:
    """The moment is now."""
    return set()


class NotInjectedError(Exception):
    """The fault could not be put in force; nothing can be concluded."""


class NotLiftedError(Exception):
    """The fault is still in force though it was lifted; what comes next would be judged wrongly."""


@dataclass(frozen=True)
class Struck:
    """What was done, when, to which processes, and what shows that it was in force. No evidence, not `proven`."""

    at: float
    evidence: dict[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    proven: bool = False
    killed: Sequence[int] = ()
    frozen: Sequence[int] = ()
    cut_off: Sequence[Place] = ()
    """Regions that nobody can tell to stop meanwhile."""
    strikes: int = 1
    """How often it struck: as often may it have interrupted what a run was doing."""
    until: float | None = None
    """When it was over by itself; None where it lasts until it is lifted."""


def over(struck: Struck) -> Struck:
    """It is over by now: what was struck comes back by itself."""
    return replace(struck, until=time.time())


@dataclass(frozen=True)
class Path:
    """The traffic that one place sends to another: on one line, or on all of them."""

    source: Place
    target: Place
    line: Line | None = None


@dataclass(frozen=True)
class Disturbance:
    """What happens to traffic. `delay` and `jitter` are milliseconds one way, `rate` is in KB/s."""

    kind: Literal["cut", "drop", "reset", "delay", "throttle"]
    delay: int = 0
    jitter: int = 0
    rate: int = 0


class Target(Protocol):
    """One deployment. What puts something in force returns with its evidence, or raises NotInjectedError.

    What takes it back may be repeated, in any state, and raises NotLiftedError where it is still in force.
    """

    def can(self, ability: Ability) -> str:
        """Empty where it can, else why not."""
        ...

    def kill(self, place: Place, part: Part, only: Collection[str] = (), moment: Moment = at_once) -> Struck:
        """End processes at once, without a word, as soon as `moment` returns; what restarts them may do so."""
        ...

    def freeze(self, place: Place, part: Part, only: Collection[str] = (), moment: Moment = at_once) -> Struck:
        """Processes stand still as soon as `moment` returns, and their connections stay open."""
        ...

    def resume(self, place: Place, part: Part) -> None:
        """They go on, as if nothing had happened."""
        ...

    def stop(self, place: Place, part: Part, only: Collection[str] = ()) -> Struck:
        """End processes as an operator would; they stay down."""
        ...

    def start(self, place: Place, part: Part, only: Collection[str] = ()) -> None:
        """What was stopped or lost is back; what runs, and what is not meant to run here, stays as it is."""
        ...

    def running(self, place: Place, part: Part) -> dict[str, int]:
        """Its processes by name."""
        ...

    def in_hand(self) -> dict[int, set[str]]:
        """The operations that each worker's process has begun and not ended."""
        ...

    def disturb(self, paths: Sequence[Path], how: Disturbance) -> Struck: ...

    def heal(self) -> None:
        """Every link is whole."""
        ...

    def sql(self, place: Place, statement: str) -> list[tuple[object, ...]]:
        """The rows of a statement, run by an administrator in the database of a region."""
        ...

    def wipe_reminders(self, place: Place) -> Struck:
        """Everything that a region's scheduler remembers is gone, and it starts empty."""
        ...

    def wipe_database(self, place: Place) -> Struck:
        """Every file of a region's database is gone, and its node stays down."""
        ...

    def move_lease_leader(self) -> Struck:
        """Another member leads the lease store."""
        ...

    def switch_over(self, to: Place) -> Struck:
        """The active role moves, as an operator would move it."""
        ...

    def fail_over_by_hand(self, to: Place) -> Struck:
        """An operator makes Patroni fail over although the primary is well."""
        ...

    def control(self, service: Service, method: str, path: str, body: JsonValue = None) -> JsonValue:
        """What a service answers when it is told how to behave. Raises NotInjectedError."""
        ...

    def starve(self, place: Place, part: Part, of: Resource) -> Struck:
        """One process of a part gets not one file, or not one page of memory, more than it has."""
        ...

    def sate(self, place: Place, part: Part) -> None:
        """Every process of a part may take as much as ever."""
        ...

    def throttle(self, place: Place, part: Part, share: float, seconds: float) -> Struck:
        """One process of a part gets no more than that share of one processor for so long; then it has all again."""
        ...

    def expire_certificate(self, place: Place) -> Struck:
        """The API of a region shows a certificate that has expired."""
        ...

    def renew_certificate(self, place: Place) -> None:
        """The API of a region shows the certificate that it had before."""
        ...

    def deploy(self, place: Place, agent: str) -> Struck:
        """The workers of a region host another agent, restarted one after the other."""
        ...

    def withdraw(self, place: Place) -> None:
        """The workers of a region host what they hosted before any `deploy`."""
        ...
