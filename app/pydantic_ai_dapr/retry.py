"""When an operation that failed is tried again: decided by the driver, with durable timers."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic_ai_dapr.errors import ErrorValue


@dataclass(frozen=True)
class Retry:
    """At most `attempts` in all, with delays from `first_seconds` that grow by `factor` up to `longest_seconds`.

    A provider's Retry-After counts where it is longer, up to `longest_seconds`.
    """

    attempts: int = 5
    first_seconds: float = 0.5
    factor: float = 2.0
    longest_seconds: float = 60.0

    def delay(self, attempt: int, error: ErrorValue) -> float | None:
        """Seconds until the next attempt, or None where there is none to be made."""
        if not error.retryable or attempt >= self.attempts:
            return None
        delay = self.first_seconds * self.factor ** (attempt - 1)
        return min(max(delay, error.retry_after or 0.0), self.longest_seconds)
