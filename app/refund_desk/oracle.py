"""What the desk decides in a world without faults: the yardstick for runs that went through one.

python -m refund_desk.oracle tickets.jsonl      one JSON object a line: {"ticket_id": …, "decision": {…}}
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from refund_desk.agent import build_agent
from refund_desk.effects import MemoryEffects
from refund_desk.hosted import hosted
from refund_desk.model import deterministic_model
from refund_desk.supervisor import decided
from refund_desk.ticket import Decision, Ticket
from refund_desk.tickets import read_tickets


async def decide(ticket: Ticket, *, released: bool = False) -> Decision:
    """The decision of a plain, fault-free run with the deterministic model; a held ticket is `released`, or not."""
    agent = build_agent(deterministic_model(), MemoryEffects(), decided(released))
    result = await agent.run(hosted.prompt(ticket), deps=hosted.deps(ticket))
    return result.output


def main(arguments: list[str]) -> int:
    """Print the decision of each ticket of a file."""
    if len(arguments) != 1:
        print("usage: python -m refund_desk.oracle TICKETS", file=sys.stderr)
        return 2

    async def decide_all() -> None:
        for ticket in read_tickets(Path(arguments[0])).tickets:
            decision = await decide(ticket)
            print(json.dumps({"ticket_id": ticket.ticket_id, "decision": decision.model_dump(mode="json")}))

    asyncio.run(decide_all())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
