"""What the console asks of its region's agent: all that it knows of regions, and the only way to a switchover."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError
from serving import Problem

_Answer = TypeVar("_Answer", bound=BaseModel)
FRESH_SECONDS, TIMEOUT_SECONDS = 1.0, 2.0


class _Told(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class EarlyRelease(_Told):
    """Whether a lost region's lease may be released early, how long it was silent, and what was decided last."""

    enabled: bool
    silent_seconds: float
    last: str | None = None


class AgentStatus(_Told):
    """The agent's own view of its region."""

    role: str
    epoch: int | None = None
    since: datetime | None = None
    open_runs: int = 0
    stuck: list[str] = []
    early_release: EarlyRelease | None = None


class Node(_Told):
    """A region's database node, as the lease store has it. `lag` is in bytes, or unknown."""

    name: str
    role: str
    state: str
    timeline: int | None = None
    lag: int | str | None = None

    @property
    def in_step(self) -> bool:
        """Whether it has every acknowledged change."""
        return self.role == "sync_standby" and self.state in ("streaming", "running")


class Lease(_Told):
    """How long the lease lasts without being renewed, and how often it is, in seconds."""

    ttl: int
    loop_wait: int


class Cluster(_Told):
    """Every region's node, and the lease's holder."""

    nodes: list[Node] = []
    lease: Lease | None = None
    holder: str | None = None


@dataclass(frozen=True)
class Sight:
    """What was seen of the regions a moment ago; None is what didn't answer."""

    status: AgentStatus | None = None
    cluster: Cluster | None = None

    def node(self, region: str) -> Node | None:
        """A region's database node."""
        return next((node for node in self.cluster.nodes if node.name == region), None) if self.cluster else None


class _Candidate(_Told):
    candidate: str


class _Refusal(_Told):
    detail: str


class Neighbour:
    """Asks at most once a second, however many people look. Safe to use from several threads."""

    def __init__(
        self,
        url: str,
        *,
        token: str,
        operator_token: str,
        context: ssl.SSLContext | None = None,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = httpx.Client(
            base_url=url,
            verify=context or True,
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
            transport=transport,
        )
        self._operator, self._clock, self._lock = operator_token, clock, threading.Lock()
        self._sight, self._at = Sight(), float("-inf")

    def look(self) -> Sight:
        """What the regions look like now."""
        with self._lock:
            if self._clock() - self._at > FRESH_SECONDS:
                self._sight = Sight(self._ask("/status", AgentStatus), self._ask("/cluster", Cluster))
                self._at = self._clock()
            return self._sight

    def switch_over(self) -> str:
        """The region that takes over from now on. Raises Problem, with the agent's reason."""
        try:
            answer = self._client.post("/switchover", headers={"Holdfast-Operator": self._operator}, timeout=10)
            if answer.is_success:
                return _Candidate.model_validate_json(answer.content).candidate
            detail = _Refusal.model_validate_json(answer.content).detail
        except (httpx.HTTPError, ValidationError) as error:
            detail = f"the region agent gave no answer ({type(error).__name__}); look before you try again"
            raise Problem(503, "unavailable", detail) from error
        raise Problem(answer.status_code, "not switched over", detail)

    def _ask(self, path: str, answer: type[_Answer]) -> _Answer | None:
        try:
            response = self._client.get(path)
            return answer.model_validate_json(response.content) if response.is_success else None
        except (httpx.HTTPError, ValidationError):
            return None
