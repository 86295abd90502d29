"""What happened, in one sentence that follows from the record alone."""

from __future__ import annotations

from chaos.report.folder import Report


def happened(report: Report) -> str:
    """One sentence: what was done, what went on, and what decides the verdict."""
    return f"{_done(report)}{_went_on(report)}; {_outcome(report)}."


def _done(report: Report) -> str:
    history = report.history
    if not history.faults:
        return "No fault was injected"
    faults = ", ".join(dict.fromkeys(f"{fault.name} of {fault.target}" for fault in history.faults))
    at = history.fault_at
    met = history.in_flight_at(at) if at is not None else None
    return f"{faults[:1].upper()}{faults[1:]}" + (f" met {len(met)} runs in flight" if met is not None else "")


def _went_on(report: Report) -> str:
    at, rto = report.history.fault_at, report.verdict.recovery.rto
    if at is None:
        return ""
    if rto is not None:
        return f", and the first went on {rto:.2f} s later"
    regions = {one.region for one in report.history.attempts or [] if one.phase == "started" and one.at > at}
    return (
        f", and work went on in region {' and '.join(sorted(regions))}" if regions else ", and none was seen to go on"
    )


def _outcome(report: Report) -> str:
    deciding = [check for check in report.verdict.checks if check.answer == report.verdict.answer]
    if report.verdict.answer == "valid":
        counts = {check.check: check.counts for check in deciding}
        ended, accepted = counts.get("K1", {}).get("ended"), counts.get("K1", {}).get("accepted")
        twice = counts.get("K2", {}).get("duplicate-applied")
        told = [f"{ended} of {accepted} accepted runs ended"] if ended is not None else []
        told += [f"{twice} effects were applied twice"] if twice is not None else []
        return ", ".join([*told, f"all {len(deciding)} checks hold"])
    if not deciding:
        return "nothing was checked"
    invalid = report.verdict.answer == "invalid"
    said, also = ("does not hold", "nor do") if invalid else ("could not be checked", "nor could")
    first, *others = deciding
    witness = first.witness[0].rstrip(".") if first.witness else "no witness"
    more = f"; {also} {_listed([check.check for check in others])}" if others else ""
    return f"{first.check} (“{first.claim}”) {said}: {witness}{more}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
