"""K8: an external signal, such as an approval, is applied exactly once."""

from __future__ import annotations

from collections import defaultdict

from chaos.history import History, HistoryItem, Signal, Workflow
from chaos.verdict import CheckResult, result, short_of

Call = tuple[str, str]


def signals_applied_once(history: History) -> CheckResult | None:
    """Invalid where an acknowledged signal is lost, one was raised that nobody sent, or a decision was not obeyed.

    Of several decisions about one tool call the first that arrived counts: an approved call is executed as one
    operation, a denied one as none. An event bears the time at which it was raised: where a turn was cut off, the
    engine may hand one and the same event to the run again (`delivered-again`), which is no second signal.
    """
    claim = "an external signal is applied exactly once"
    if not history.bounds.signals and not history.signals:
        return None
    sent: dict[Call, list[Signal]] = defaultdict(list)
    for signal in history.signals or []:
        sent[signal.run_id, signal.call_id].append(signal)
    known = {workflow.run_id: workflow for workflow in history.workflows or []}
    missing = [] if history.workflows is not None else ["the runs were not recorded"]
    acknowledged = sum(signal.outcome == "ok" for signal in history.signals or [])
    missing += short_of(history.bounds.signals, acknowledged, "acknowledged signals")
    violations: list[str] = []
    applied = again = 0
    for (run_id, call_id), signals in sent.items():
        workflow = known.get(run_id)
        if workflow is None or workflow.history is None:
            missing.append(f"{run_id}: its history could not be read")
            continue
        raised = [item for item in workflow.history if item.type == "eventRaised" and _is_about(item, call_id)]
        applied += bool(raised)
        again += len(raised) - len({item.at for item in raised})
        violations += _of_call(workflow, call_id, signals, raised)
    counts = {"sent": len(history.signals or []), "acknowledged": acknowledged, "calls": len(sent), "applied": applied}
    counts["delivered-again"] = again
    return result("K8", claim, counts, violations, missing)


def _of_call(workflow: Workflow, call_id: str, signals: list[Signal], raised: list[HistoryItem]) -> list[str]:
    name = f"{workflow.run_id}: {call_id}"
    if not raised and any(signal.outcome == "ok" for signal in signals):
        region = next(signal.region for signal in signals if signal.outcome == "ok")
        return [f"{name}: acknowledged by region {region}, and never given to the run"]
    arrived = sum(signal.outcome != "refused" for signal in signals)
    given = len({item.at for item in raised})
    if given > arrived:
        return [f"{name}: given to the run {given} times, sent {arrived} times"]
    if not raised or workflow.status != "completed":
        return []
    ordinals = sorted({item.ordinal for item in workflow.history or [] if item.call_id == call_id and item.ordinal})
    wanted = int(raised[0].ok is not False)
    if len(ordinals) != wanted:
        which = ", ".join(f"{workflow.run_id}:{ordinal}" for ordinal in ordinals) or "no operation"
        return [f"{name}: {'approved' if wanted else 'denied'}, and executed by {which}"]
    return []


def _is_about(item: HistoryItem, call_id: str) -> bool:
    return (item.name or "").casefold().rpartition(":")[2] == call_id.casefold()
