"""K11: histories are signed by who may, and who may not is refused."""

from __future__ import annotations

from chaos.history import History
from chaos.verdict import CheckResult, result, short_of


def only_who_may_was_heard(history: History) -> CheckResult | None:
    """Invalid where an event of a run is not proven to be written by an allowed signer, or an intrusion succeeded."""
    bounds, proofs, intrusions = history.bounds, history.proofs or [], history.intrusions or []
    if not (bounds.proofs or bounds.intrusions or proofs or intrusions):
        return None
    violations = [f"{one.run_id}: not proven: {one.reason}" for one in proofs if one.proven is False]
    violations += [
        f"{one.name} at {one.door}: {one.observed}, where {one.expected} was expected"
        for one in intrusions
        if not one.refused
    ]
    missing = [f"{one.run_id}: its signatures could not be read: {one.reason}" for one in proofs if one.proven is None]
    missing += short_of(bounds.proofs, len(proofs), "proofs")
    missing += short_of(bounds.intrusions, len(intrusions), "intrusions")
    counts = {
        "histories": len(proofs),
        "events-signed": sum(one.events for one in proofs if one.proven),
        "signers": len({signer for one in proofs for signer in one.signers}),
        "intrusions": len(intrusions),
        "refused": sum(one.refused for one in intrusions),
    }
    return result("K11", "histories are signed by who may, and who may not is refused", counts, violations, missing)
