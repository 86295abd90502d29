"""The world outside both regions: the service in which the agents' effects happen."""

from __future__ import annotations

import json

from infra.local.layout import Layout, python
from infra.local.site import Process, Site

__all__ = ["NAME", "site", "write_files"]

NAME = "payments"
_ANSWER_SECONDS = 0.3
"""What a payment provider takes; a fault in between leaves the caller in doubt."""


def write_files(layout: Layout) -> bool:
    """Whether a file changed."""
    changed = layout.prepare(NAME)
    config = {
        "listen": layout.address("payments"),
        "tls": layout.tls_files(NAME),
        "token_file": str(layout.secret("payments-token")),
        "ledger": str(layout.data(NAME) / "ledger.sqlite"),
        "answer_seconds": _ANSWER_SECONDS,
    }
    return changed | layout.write(layout.config(NAME, "payments.json"), json.dumps(config, indent=1))


def site(layout: Layout) -> Site:
    process = Process(
        "payments",
        python("-m", "refund_desk.payments", "--config", str(layout.config(NAME, "payments.json"))),
        dict(layout.settings.environment),
        stop_seconds=5,
        ports={"payments": layout.ports["payments"]},
    )
    return layout.supervised(NAME, (process,))
