"""The world outside both regions: the service in which the agents' effects happen, and the model's provider.

The provider is simulated, and runs only where the deployment's model is the one that asks it.
"""

from __future__ import annotations

import json

from infra import processes
from infra.local.layout import Layout, python
from infra.local.site import Process, Site
from infra.processes import PROVIDED

__all__ = ["NAME", "PROVIDED", "has_provider", "site", "write_files"]

NAME = "payments"


def write_files(layout: Layout) -> bool:
    """Whether a file changed."""
    changed = layout.prepare(NAME)
    listen = {name: layout.address(name) for name in ("payments", "provider")}
    ledger = str(layout.data(NAME) / "ledger.sqlite")
    configs = processes.payments(layout.settings, layout.tls_files(NAME), layout.secrets, listen, ledger)
    for name, config in configs.items():
        changed |= layout.write(layout.config(NAME, f"{name}.json"), json.dumps(config, indent=1))
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
