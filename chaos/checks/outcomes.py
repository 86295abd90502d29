"""K10: the typed result is the one of a world without faults."""

from __future__ import annotations

import asyncio

from pydantic import ValidationError

from chaos.history import History
from chaos.verdict import CheckResult, result


def outcomes_equal_the_oracle(history: History) -> CheckResult:
    """Invalid where an ended run has no valid decision, or another one than a plain, fault-free run of its ticket.

    A held ticket's is the one after what its supervisor decided; where nobody knows whether a decision arrived, either.
    A run whose history was tampered with must fail.
    """
    claim = "every result validates and equals the fault-free one"
    if history.workflows is None:
        return result("K10", claim, {}, [], ["the runs were not recorded"])
    from refund_desk import Decision, Ticket
    from refund_desk.oracle import decide

    tickets = {operation.run_id: operation.ticket for operation in history.accepted}
    violations: list[str] = []
    compared = 0
    decided: dict[tuple[Ticket, bool], Decision] = {}

    async def oracle(ticket: Ticket, released: bool) -> Decision:
        if (ticket, released) not in decided:
            decided[ticket, released] = await decide(ticket, released=released)
        return decided[ticket, released]

    async def compare() -> None:
        nonlocal compared
        for workflow in history.workflows or []:
            if workflow.run_id not in tickets or workflow.status not in ("completed", "failed", "terminated"):
                continue
            if workflow.run_id in history.tampered:
                if workflow.status == "completed":
                    violations.append(f"{workflow.run_id}: completed, though its history was tampered with")
                continue
            if workflow.status != "completed":
                violations.append(f"{workflow.run_id}: {workflow.status}: {workflow.error or 'no reason was given'}")
                continue
            output = workflow.output
            try:
                found = Decision.model_validate(output.get("output") if isinstance(output, dict) else None)
            except ValidationError as error:
                violations.append(f"{workflow.run_id}: its result is no decision: {error.error_count()} errors")
                continue
            compared += 1
            ticket = Ticket.model_validate(tickets[workflow.run_id])
            expected = [await oracle(ticket, released) for released in _released(history, workflow.run_id)]
            if found not in expected:
                wanted = " or ".join(f"{one.outcome} {one.amount}" for one in expected)
                violations.append(f"{workflow.run_id}: {found.outcome} {found.amount}, not {wanted}")

    asyncio.run(compare())
    missing = [] if compared or violations else ["no run has a result to compare"]
    return result("K10", claim, {"compared": compared, "different": len(violations)}, violations, missing)


def _released(history: History, run_id: str) -> list[bool]:
    """What a supervisor may have decided of a run, as far as anybody knows; nobody's decision is a denial."""
    sent = [signal for signal in history.signals or [] if signal.run_id == run_id]
    known = {signal.approved for signal in sent if signal.outcome == "ok"}
    if known:
        return sorted(known)
    return sorted({False, *(signal.approved for signal in sent if signal.outcome == "unknown")})
