"""Pulumi's view of one part of a local deployment: create, read, update and delete by `infra.local.target`.

A part is in the state if it was brought up once; whether it lives is its output `healthy`. `pulumi refresh`
observes, so a dead part shows there, and the next `pulumi up` repairs it. Every operation may be repeated.

Pulumi records nothing of a part whose first `up` failed half-way, so deleting the root certificate, which
Pulumi does last, removes every part that is left.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    ConfigureRequest,
    CreateResult,
    DiffResult,
    ReadResult,
    ResourceProvider,
    UpdateResult,
)

from infra.local.engine import Reporter, end_with_engine
from infra.properties import to_settings
from infra.topology import Settings

__all__ = ["PARTS", "TARGET", "PartProvider", "Target"]

PARTS = ("root", "wan", "payments", "witness", "region-a", "region-b")
"""In the order in which one can stand without the next."""

TARGET = "infra.local.target"

_APP = frozenset({"environment", "environment_fingerprint"})
_REGION = _APP | {
    "workers",
    "lease",
    "early_release",
    "stuck_after_seconds",
    "max_body_size",
    "max_iterations",
    "kept_runs",
    "agent",
    "model",
    "model_latency_seconds",
}
_MADE_OF = {"payments": _APP, "region-a": _REGION, "region-b": _REGION}
"""The settings that a part depends on: it is updated when one of them changes."""

_IDENTITY = ("name", "directory")


class Observed(Protocol):
    """What was seen of a part."""

    @property
    def exists(self) -> bool: ...
    @property
    def healthy(self) -> bool: ...
    @property
    def detail(self) -> str: ...


class Target(Protocol):
    """The boundary between Pulumi and the processes; `infra.local.target` is the real one."""

    def converge(self, part: str, settings: Settings, progress: Callable[[str], None]) -> Mapping[str, str]: ...
    def observe(self, part: str, settings: Settings) -> Observed: ...
    def remove(self, part: str, settings: Settings) -> None: ...


class PartProvider(ResourceProvider):
    """Brings one part up, looks at it, and takes it down.

    Pulumi pickles the provider into its state by reference to this class, so the state stays valid as long as
    the name does.
    """

    serialize_as_secret_always = False

    def __init__(self, target: str = TARGET) -> None:
        super().__init__()
        self.target = target

    def configure(self, req: ConfigureRequest) -> None:
        """In the plugin's process: a part that fails says so itself, without gRPC's trace of the plugin."""
        end_with_engine()
        logging.getLogger("grpc._server").setLevel(logging.CRITICAL)

    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        part = news.get("part")
        failures = [] if part in PARTS else [CheckFailure("part", f"{part!r} is none of {', '.join(PARTS)}")]
        return CheckResult(news, failures)

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """A part changes if it is not healthy, or a setting that it depends on did."""
        old, new = _olds["settings"], _news["settings"]
        replaces = [f"settings.{key}" for key in _IDENTITY if old.get(key) != new.get(key)]
        changed = changed_settings(_news["part"], old, new)
        return DiffResult(
            changes=bool(replaces or changed or not _olds.get("healthy", False)),
            replaces=replaces,
            delete_before_replace=True,
        )

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult(f"{props['settings']['name']}/{props['part']}", self._converge(props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        reporter = Reporter(_news.get("reports_to"))
        changed = changed_settings(_news["part"], _olds["settings"], _news["settings"])
        if not _olds.get("healthy", False):
            reporter.say(f"repairing: {_olds.get('detail') or 'not healthy'}")
        if changed:
            reporter.say(f"changed: {', '.join(changed)}")
        return UpdateResult(self._converge(_news))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        seen = self._target().observe(props["part"], to_settings(props["settings"], os.environ))
        if not seen.exists:
            return ReadResult(None, {})
        detail = "" if seen.healthy else seen.detail
        return ReadResult(id_, {**props, "healthy": seen.healthy, "detail": detail})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        settings = to_settings(_props["settings"], os.environ)
        part = _props["part"]
        for leftover in reversed(PARTS) if part == "root" else (part,):
            self._target().remove(leftover, settings)

    def _converge(self, props: dict[str, Any]) -> dict[str, Any]:
        reporter = Reporter(props.get("reports_to"))
        settings = to_settings(props["settings"], os.environ)
        facts = self._target().converge(props["part"], settings, reporter.say)
        return {**props, "facts": dict(facts), "healthy": True, "detail": ""}

    def _target(self) -> Target:
        return cast("Target", importlib.import_module(self.target))


def changed_settings(part: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The settings that differ and that `part` is made of."""
    return sorted(key for key in _MADE_OF.get(part, ()) if old.get(key) != new.get(key))
