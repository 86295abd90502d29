"""After a failover no timer is set again. Every note is left at the second attempt, ten seconds after the first."""

from types import ModuleType
from typing import Any

from chaos.plants.hook import after_import

WAIT_SECONDS = 10.0


def _forget_timers(module: ModuleType) -> None:
    reissue = module.LiveRun._reissue

    def reissue_calls(self: Any, token: object) -> None:
        timers = [step for step in self.steps.values() if isinstance(step, module.Timer)]
        before = [step.reissued for step in timers]
        for step in timers:
            step.reissued = True
        reissue(self, token)
        for step, was in zip(timers, before, strict=True):
            step.reissued = was

    module.LiveRun._reissue = reissue_calls


def _fail_first(module: ModuleType) -> None:
    apply = module.HttpEffects.apply

    async def at_the_second_attempt(self: Any, kind: str, payload: dict[str, Any]) -> Any:
        if kind == "notes" and module.current_operation().attempt == 1:
            raise ConnectionError("not yet")
        return await apply(self, kind, payload)

    module.HttpEffects.apply = at_the_second_attempt


def _wait_long(module: ModuleType) -> None:
    module.Retry.delay = lambda self, attempt, error: WAIT_SECONDS if error.retryable and attempt < 3 else None


after_import("pydantic_ai_dapr.run", _forget_timers)
after_import("refund_desk.effects", _fail_first)
after_import("pydantic_ai_dapr.retry", _wait_long)
