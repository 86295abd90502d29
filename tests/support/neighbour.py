"""Another app that hosts tools behind an access policy, and the sidecar between, all in memory and through JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import SimpleNamespace
from typing import Any

from pydantic_ai_dapr.remote_tools import REMOTE_CALL, remote_call
from pydantic_ai_dapr.tool_host import ToolHost
from pydantic_ai_dapr.types import RECOVER, RunError, RunExistsError, RunStatus

from tests.support.workflow_engine import BEGAN, Engine

Ends = Callable[[str], RunStatus | None]


@dataclass
class Neighbour:
    """The app `tools`, as the sidecar of `caller` reaches it. `ends` may decide the end of a call's workflow."""

    host: ToolHost[Any]
    policy: dict[str, Any] | None = None
    caller: str = "agents"
    ends: Ends = lambda instance_id: None
    failures: Iterator[Exception | None] = field(default_factory=lambda: iter(()))
    """What each call of this sidecar raises, for as long as there is something."""
    engines: dict[str, Engine] = field(default_factory=dict[str, Engine])
    started: list[str] = field(default_factory=list[str])
    events: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    purged: list[str] = field(default_factory=list[str])
    served: list[tuple[str, str, Any]] = field(default_factory=list[tuple[str, str, Any]])
    """Calls that the policy allowed: instance id, activity and payload."""

    def __post_init__(self) -> None:
        self.activities = self.host.activities()

    def start(self, instance_id: str, workflow: str, value: Any, timeout: float) -> None:
        self._fail()
        assert workflow == REMOTE_CALL
        if instance_id in self.engines:
            raise RunExistsError(instance_id)
        self.started.append(instance_id)
        self.engines[instance_id] = Engine(remote_call(), instance_id, json.loads(json.dumps(value)))

    def status(self, instance_id: str, timeout: float) -> RunStatus | None:
        engine = self.engines.get(instance_id)
        if engine is None:
            return None
        return _status(instance_id, "completed" if engine.ended else "running", engine.result)

    async def ended(self, instance_id: str, seconds: float) -> RunStatus | None:
        self._fail()
        decided = self.ends(instance_id)
        if decided is not None:
            return decided
        return await asyncio.to_thread(self.bring_to_its_end, instance_id)

    def raise_event(self, instance_id: str, name: str, value: Any, timeout: float) -> None:
        assert name == RECOVER
        self.events.append((instance_id, value))

    def purge(self, instance_id: str, timeout: float) -> None:
        self.engines.pop(instance_id)
        self.purged.append(instance_id)

    def app_id(self, timeout: float) -> str:
        self._fail()
        return self.caller

    def bring_to_its_end(self, instance_id: str) -> RunStatus | None:
        engine = self.engines.get(instance_id)
        if engine is None:
            return None
        if engine.ended:
            return self.status(instance_id, 0)
        try:
            engine.run(lambda name, value: self._serve(instance_id, name, value))
        except Exception as error:
            return failed(instance_id, type(error).__name__, str(error))
        return self.status(instance_id, 0)

    def _serve(self, instance_id: str, name: str, value: Any) -> Any:
        if self.policy is not None and not _allows(self.policy, self.caller, name):
            raise PermissionError(f"{instance_id}: Activity task #1 failed: access denied by workflow access policy")
        self.served.append((instance_id, name, value))
        answer = self.activities[name](SimpleNamespace(workflow_id=instance_id, task_id=1), value)
        return json.loads(json.dumps(answer))

    def _fail(self) -> None:
        error = next(self.failures, None)
        if error is not None:
            raise error


def failed(instance_id: str, kind: str, message: str) -> RunStatus:
    """The status of a workflow that has failed."""
    return _status(instance_id, "failed", None).model_copy(update={"error": RunError(type=kind, message=message)})


def _status(instance_id: str, status: Any, output: Any) -> RunStatus:
    return RunStatus(run_id=instance_id, status=status, created_at=BEGAN, updated_at=BEGAN, output=output)


def _allows(policy: dict[str, Any], caller: str, activity: str) -> bool:
    return any(
        {"appID": caller} in rule["callers"] and any(fnmatchcase(activity, one["name"]) for one in rule["activities"])
        for rule in policy["spec"]["rules"]
    )
