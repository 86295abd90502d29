"""`Settings` to and from what a Pulumi state may hold: plain values, and no secret.

Values of environment variables stay out of the state: it keeps their names, and a fingerprint by which a
changed value is noticed.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.topology import Console, EarlyRelease, Lease, Prometheus, Settings, Traces

__all__ = ["to_properties", "to_settings"]


def to_properties(settings: Settings) -> dict[str, Any]:
    """What the state keeps of `settings`."""
    properties = dataclasses.asdict(dataclasses.replace(settings, environment={}))
    properties["directory"] = str(settings.directory)
    properties["environment"] = sorted(settings.environment)
    properties["environment_fingerprint"] = _fingerprint(settings)
    return properties


def to_settings(properties: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """The settings that `properties` were made of; variables that are not set any more are left out.

    What a deployment by an earlier version does not tell of is as it is by default: that one can be destroyed too.
    """
    default = Settings(name=properties["name"], directory=Path(properties["directory"]))
    properties = {**to_properties(default), **properties}
    fields = {field.name: properties[field.name] for field in dataclasses.fields(Settings)}
    lease, early, console = properties["lease"], properties["early_release"], properties["console"]
    prometheus, traces = properties["prometheus"], properties["traces"]
    # A number passes through Pulumi as a double.
    return Settings(
        **{
            **fields,
            "directory": Path(properties["directory"]),
            "workers": int(properties["workers"]),
            "max_iterations": int(properties["max_iterations"]),
            "kept_runs": int(properties["kept_runs"]),
            "stuck_after_seconds": float(properties["stuck_after_seconds"]),
            "model_latency_seconds": float(properties["model_latency_seconds"]),
            "lease": Lease(**{name: int(value) for name, value in lease.items()}),
            "early_release": EarlyRelease(
                enabled=bool(early["enabled"]), silence_seconds=float(early["silence_seconds"])
            ),
            "console": Console(
                session_minutes=float(console["session_minutes"]),
                mask_keys=tuple(console["mask_keys"]),
                mask_values=tuple(console["mask_values"]),
            ),
            "prometheus": Prometheus(
                enabled=bool(prometheus["enabled"]), scrape_seconds=int(prometheus["scrape_seconds"])
            ),
            "traces": Traces(to=traces["to"], sampling=float(traces["sampling"])),
            "environment": {name: environ[name] for name in properties["environment"] if name in environ},
        }
    )


def _fingerprint(settings: Settings) -> str:
    """Too short and too slow to guess a secret from, long enough to notice a change."""
    if not settings.environment:
        return ""
    content = "\0".join(f"{name}={value}" for name, value in sorted(settings.environment.items()))
    return hashlib.pbkdf2_hmac("sha256", content.encode(), str(settings.directory).encode(), 100_000)[:4].hex()
