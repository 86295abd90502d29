"""How the desk's tools reach the outside world: every effect carries an idempotency key and an epoch."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import httpx
from pydantic import BaseModel, JsonValue
from pydantic_ai_dapr import current_operation

from refund_desk.payments.rules import EffectKind, decide

Answer = dict[str, JsonValue]
ATTEMPTS = 6


class EffectRefusedError(Exception):
    """The payments service understood the effect and refused it; trying again would not help."""


class Effects(Protocol):
    """Applies an effect at most once per idempotency key, and returns the service's answer."""

    async def apply(self, kind: EffectKind, payload: dict[str, JsonValue]) -> Answer: ...


@dataclass(frozen=True)
class ServiceAddress:
    """Where a service of the outside world is, and the file with its token."""

    url: str
    ca: Path
    token_file: Path


@dataclass(frozen=True)
class EffectsConfig:
    """Where the payments service is, on whose behalf effects are sent, and where the model's provider is."""

    url: str
    ca: Path
    token_file: Path
    region: str
    epoch: int
    worker: str
    model_provider: ServiceAddress | None = None


@dataclass
class HttpEffects:
    """Sends effects to the payments service over TLS, under the key of the running operation.

    A lost connection, a timeout or a 5xx is tried again under the same key, `ATTEMPTS` times within about
    three seconds; then the error goes to the caller. A refusal (4xx) raises `EffectRefusedError` at once.
    """

    config: EffectsConfig
    _client: httpx.AsyncClient | None = field(default=None, init=False)

    def _connect(self) -> httpx.AsyncClient:
        if self._client is None:
            token = self.config.token_file.read_text(encoding="utf-8").strip()
            self._client = httpx.AsyncClient(
                base_url=self.config.url,
                verify=ssl.create_default_context(cafile=str(self.config.ca)),
                headers={"Authorization": f"Bearer {token}"},
                timeout=5.0,
                trust_env=False,
            )
        return self._client

    async def apply(self, kind: EffectKind, payload: dict[str, JsonValue]) -> Answer:
        operation = current_operation()
        headers = {
            "Idempotency-Key": operation.key,
            "Holdfast-Run": operation.run_id,
            "Holdfast-Region": self.config.region,
            "Holdfast-Epoch": str(self.config.epoch),
            "Holdfast-Worker": self.config.worker,
            "Holdfast-Attempt": str(operation.attempt),
        }
        client = self._connect()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                response = await client.post(f"/{kind}", json=payload, headers=headers)
                if response.status_code < 500:
                    break
                failure = f"status {response.status_code}"
            except httpx.TransportError as error:
                failure = type(error).__name__
            if attempt == ATTEMPTS:
                raise ConnectionError(f"payments did not answer {kind} after {ATTEMPTS} attempts: {failure}")
            await asyncio.sleep(0.1 * 2 ** (attempt - 1))
        else:  # pragma: no cover - the loop ends by break or raise
            raise AssertionError
        if response.is_error:
            raise EffectRefusedError(f"payments refused {kind}: {response.text[:500]}")
        return _Answer.model_validate_json(response.content).result


@dataclass
class MemoryEffects:
    """Applies effects in memory by the service's own rules: a fault-free world for tests and the oracle."""

    applied: list[tuple[EffectKind, dict[str, JsonValue]]] = field(
        default_factory=list[tuple[EffectKind, dict[str, JsonValue]]]
    )

    async def apply(self, kind: EffectKind, payload: dict[str, JsonValue]) -> Answer:
        self.applied.append((kind, payload))
        return decide(kind, payload)


class _Answer(BaseModel):
    result: Answer
