"""The world outside both regions: the service in which the agents' effects happen, and the model's provider.

The provider is simulated, and runs only where the deployment's model is the one that asks it.
"""

from __future__ import annotations

import json

from infra.local.layout import Layout, python
from infra.local.site import Process, Site

__all__ = ["NAME", "has_provider", "site", "write_files"]

NAME = "payments"
PROVIDED = "refund_desk:provided"
_ANSWER_SECONDS = 0.3
"""What a payment provider takes; a fault in between leaves the caller in doubt."""


def write_files(layout: Layout) -> bool:
    """Whether a file changed."""
    changed = layout.prepare(NAME)
    common = {
        "tls": layout.tls_files(NAME),
        "control_token_file": str(layout.secret("control-token")),
        "metrics_token_file": str(layout.secret("metrics-token")),
    }
    payments = {
        "listen": layout.address("payments"),
        "token_file": str(layout.secret("payments-token")),
        "ledger": str(layout.data(NAME) / "ledger.sqlite"),
        "answer_seconds": _ANSWER_SECONDS,
    }
    provider = {
        "listen": layout.address("provider"),
        "token_file": str(layout.secret("provider-token")),
        "latency_seconds": layout.settings.model_latency_seconds,
    }
    configs = {"payments": payments} | ({"provider": provider} if has_provider(layout) else {})
    for name, config in configs.items():
        changed |= layout.write(layout.config(NAME, f"{name}.json"), json.dumps(config | common, indent=1))
    return changed


def site(layout: Layout) -> Site:
    names = ("payments", "provider") if has_provider(layout) else ("payments",)
    return layout.supervised(NAME, tuple(_process(layout, name) for name in names))


def has_provider(layout: Layout) -> bool:
    """Whether the agents' model is the simulated provider's."""
    return layout.settings.model == PROVIDED


def _process(layout: Layout, name: str) -> Process:
    return Process(
        name,
        python("-m", f"refund_desk.{name}", "--config", str(layout.config(NAME, f"{name}.json"))),
        dict(layout.settings.environment),
        stop_seconds=5,
        ports={name: layout.ports[name]},
    )
