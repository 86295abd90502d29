"""K10: the typed result is the one of a world without faults."""

from __future__ import annotations

import asyncio

from pydantic import ValidationError

from chaos.history import History
from chaos.verdict import CheckResult, result


def outcomes_equal_the_oracle(history: History) -> CheckResult:
    """Invalid where an ended run has no valid decision, or another one than a plain, fault-free run of its ticket."""
    claim = "every result validates and equals the fault-free one"
    if history.workflows is None:
        return result("K10", claim, {}, [], ["the runs were not recorded"])
    from refund_desk import Decision, Ticket
    from refund_desk.oracle import decide

    tickets = {operation.run_id: operation.ticket for operation in history.accepted}
    violations: list[str] = []
    compared = 0
    decided: dict[Ticket, Decision] = {}

    async def compare() -> None:
        nonlocal compared
        for workflow in history.workflows or []:
            if workflow.run_id not in tickets or workflow.status not in ("completed", "failed", "terminated"):
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
            if ticket not in decided:
                decided[ticket] = await decide(ticket)
            expected = decided[ticket]
            if found != expected:
                violations.append(
                    f"{workflow.run_id}: {found.outcome} {found.amount}, not {expected.outcome} {expected.amount}"
                )

    asyncio.run(compare())
    missing = [] if compared or violations else ["no run has a result to compare"]
    return result("K10", claim, {"compared": compared, "different": len(violations)}, violations, missing)
