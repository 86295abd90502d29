"""Somebody who can write to the database changes what a run has done."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pydantic import JsonValue

from chaos.faults.target import Ability, Moment, NotInjectedError, Place, Struck, Target

_OLDEST = """
    select r.run_id, s.key, md5(s.value)
    from holdfast.runs r join state s on split_part(s.key, '||', 3) = r.run_id
    where r.closed_at is null and split_part(s.key, '||', 4) like 'history-%'
    and position('await_supervisor' in encode(s.value, 'escape')) > 0
    order by r.accepted_at, s.key limit 1
"""
_CHANGE = """
    update state set value = set_byte(value, length(value) - 3, (get_byte(value, length(value) - 3) + 1) % 256)
    where key = {key}; select md5(value) from state where key = {key}
"""


@dataclass(frozen=True)
class TamperHistory:
    """An event of a held run's history is changed, and the sidecars read it anew."""

    name: str = "tamper-history"
    does: str = "A row of a run's history is changed in the database, past Dapr"
    in_doubt: bool = False
    needs: frozenset[Ability] = frozenset({"sql", "kill"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        found = target.sql(place, _OLDEST)
        if not found:
            raise NotInjectedError("no held run has a history to be changed")
        run_id, key, before = (str(one) for one in found[0])
        at = time.time()
        after = str(target.sql(place, _CHANGE.format(key=_quoted(key)))[0][0])
        # What a sidecar has read it keeps in memory.
        target.kill(place, "sidecar")
        evidence: dict[str, JsonValue] = {"tampered": run_id, "row": key, "before": before, "after": after}
        return Struck(at, evidence, before != after)

    def lift(self, target: Target, place: Place) -> None:
        """What was changed stays so: the run is lost, and says it."""


def _quoted(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'"
