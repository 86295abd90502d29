"""When the standby may release a lost region's lease ahead of its TTL.

Invariant: no write that the old primary acknowledges is missing on the one that Patroni promotes next.

The TTL protects against a primary that still acknowledges while another is promoted. With synchronous replication to
this standby alone that can't happen: once replication has stopped, the old primary's commits wait for this standby,
and only a write to `/sync` in the lease store could take it off the list. So the lease may go when

1. it is enabled, and this region's database is a standby that was streaming until the silence began;
2. this region has had no answer from the active one, neither Patroni nor etcd, for the whole silence;
3. the witness has had none either, for the whole silence, without being restarted meanwhile;
4. the quorum, read now, says that the active region holds the lease
5. and that this standby is the synchronous one;
6. and neither key is written between that reading and the deletion (compared in the transaction).

Nothing is promoted here: Patroni elects, and it does so only if this standby may lead. Where the old primary is
alive after all it takes the lease again at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from region_agent.etcd import Key

Reason = Literal[
    "released",
    "disabled",
    "not-a-streaming-standby",
    "answers-here",
    "observer-unreachable",
    "observer-restarted",
    "answers-the-observer",
    "no-quorum",
    "lease-not-held",
    "lease-held-by-another",
    "not-synchronous",
    "overtaken",
]


@dataclass(frozen=True)
class OwnView:
    """What this region has seen. `silent_seconds` counts the active region's unbroken silence."""

    enabled: bool
    region: str
    active: str
    was_streaming: bool
    silent_seconds: float


@dataclass(frozen=True)
class ObserverView:
    """What the witness says. `same_observer` is False where it was restarted since the silence began."""

    silent_seconds: float
    same_observer: bool


@dataclass(frozen=True)
class LeaseView:
    """The quorum's keys, read after the observer was asked."""

    leader: Key
    sync: Key


def decide(own: OwnView, observer: ObserverView | None, lease: LeaseView | None, silence: float) -> Reason:
    """`released` where every condition holds, else the first that doesn't. `silence` is in seconds."""
    if not own.enabled:
        return "disabled"
    if not own.was_streaming:
        return "not-a-streaming-standby"
    if own.silent_seconds < silence:
        return "answers-here"
    if observer is None:
        return "observer-unreachable"
    if not observer.same_observer:
        return "observer-restarted"
    if observer.silent_seconds < silence:
        return "answers-the-observer"
    if lease is None:
        return "no-quorum"
    if lease.leader.value is None:
        return "lease-not-held"
    if lease.leader.value != own.active:
        return "lease-held-by-another"
    if not names_standby(lease.sync.value, own.active, own.region):
        return "not-synchronous"
    return "released"


class _SyncState(BaseModel):
    model_config = ConfigDict(extra="ignore")
    leader: str | None = None
    sync_standby: str | None = None


def names_standby(sync: str | None, leader: str, standby: str) -> bool:
    """Whether Patroni's `/sync` value says that `standby` alone is synchronous to `leader`."""
    try:
        state = _SyncState.model_validate_json(sync or "")
    except ValidationError:
        return False
    return (state.leader, state.sync_standby) == (leader, standby)
