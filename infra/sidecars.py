"""What a sidecar is told on every target: signed histories, and where workflow state is kept."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["FEATURES", "state_store"]

FEATURES = [{"name": "WorkflowHistorySigning", "enabled": True}]

_POOL = 30
"""Connections per sidecar; more than the default of 4, which costs throughput across a WAN."""


def state_store(connection_string: Mapping[str, object]) -> dict[str, object]:
    """The specification of the component. `connection_string` has its `value`, or the `secretKeyRef` of one."""
    metadata = {"actorStateStore": "true", "maxConns": str(_POOL), "connectionMaxIdleTime": "5m"}
    return {
        "type": "state.postgresql",
        "version": "v2",
        "metadata": [
            {"name": "connectionString", **connection_string},
            *({"name": key, "value": value} for key, value in metadata.items()),
        ],
    }
