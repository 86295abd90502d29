"""Kills the worker at the point that the plan names for a run, once."""

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from chaos.crashpoints import CRASHES, PLAN
from chaos.plants.hook import after_import

_here = threading.local()


def _die(run_id: str, ordinal: int, point: str) -> None:
    """End this process at once, where the plan says so and nobody has died of it before."""
    try:
        plan = json.loads(Path(PLAN).read_bytes())
        if plan.get(run_id) != [point, ordinal]:
            return
        os.close(os.open(f"crash-{run_id}", os.O_CREAT | os.O_EXCL))
    except (FileNotFoundError, FileExistsError, ValueError):
        return
    died = {"at": time.time(), "run_id": run_id, "ordinal": ordinal, "point": point, "pid": os.getpid()}
    with open(CRASHES, "a", encoding="utf-8") as file:
        file.write(json.dumps(died) + "\n")
    os.kill(os.getpid(), signal.SIGKILL)


def _turns(module: Any) -> None:
    turn, execute, dropping = module.Turns.turn, module.Turns.execute, module._dropping

    def deciding(self: Any, request: Any, history: list[Any]) -> Any:
        response = turn(self, request, history)
        _here.asked = [asked for action in response.actions for asked in _asked(action)]
        for run_id, ordinal in _here.asked:
            _die(run_id, ordinal, "turn-decided")
        return response

    def sending(self: Any, *arguments: Any) -> None:
        _here.asked = []
        execute(self, *arguments)
        for run_id, ordinal in _here.asked:
            _die(run_id, ordinal, "turn-sent")

    def reporting(execute_activity: Any) -> Any:
        answer = dropping(execute_activity)

        def execute_and_die(*arguments: Any) -> None:
            _here.answered = None
            answer(*arguments)
            answered: tuple[str, int] | None = getattr(_here, "answered", None)
            if answered is not None:
                _die(*answered, "reported")

        return execute_and_die

    module.Turns.turn, module.Turns.execute, module._dropping = deciding, sending, reporting


def _asked(action: Any) -> list[tuple[str, int]]:
    """The operations that a turn's action asks for."""
    if not action.HasField("scheduleTask"):
        return []
    found = json.loads(action.scheduleTask.input.value or "null")
    return [(found["run"], found["ordinal"])] if isinstance(found, dict) and "ordinal" in found else []


def _host(module: Any) -> None:
    handle, tell = module.Deliveries.handle, module.OperationHost._tell

    def handling(self: Any, task: Any, delivered: dict[str, Any], body: Any) -> Any:
        run_id, ordinal = delivered["run"], delivered["ordinal"]
        _die(run_id, ordinal, "delivered")
        answer = handle(self, task, delivered, body)
        _die(run_id, ordinal, "answered")
        _here.answered = run_id, ordinal
        return answer

    def telling(self: Any, operation: Any, phase: str, **more: Any) -> None:
        tell(self, operation, phase, **more)
        if not more.get("joined"):
            _die(operation.run_id, operation.ordinal, "begun" if phase == "started" else "ended")

    module.Deliveries.handle, module.OperationHost._tell = handling, telling


def _effects(module: Any) -> None:
    apply = module.HttpEffects.apply

    async def applying(self: Any, kind: str, payload: dict[str, Any]) -> Any:
        operation = module.current_operation()
        _die(operation.run_id, operation.ordinal, "before-effect")
        answer = await apply(self, kind, payload)
        _die(operation.run_id, operation.ordinal, "after-effect")
        return answer

    module.HttpEffects.apply = applying


after_import("pydantic_ai_dapr.worker", _turns)
after_import("pydantic_ai_dapr.host", _host)
after_import("refund_desk.effects", _effects)
