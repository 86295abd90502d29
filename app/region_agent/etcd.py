"""The lease store: Patroni's keys in etcd, read from the quorum and deleted in one compared transaction."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError


class QuorumUnreachableError(Exception):
    """No member gave an answer that the quorum stands behind."""


@dataclass(frozen=True)
class Key:
    """A key's value with the revision at which it was last written. `value` is None where the key doesn't exist."""

    name: str
    value: str | None
    mod_revision: int


class _Pair(BaseModel):
    model_config = ConfigDict(extra="ignore")
    value: str = ""
    mod_revision: int
    lease: int = 0


class _Range(BaseModel):
    model_config = ConfigDict(extra="ignore")
    kvs: list[_Pair] = []


class _Lease(BaseModel):
    model_config = ConfigDict(extra="ignore")
    ttl: int = Field(alias="TTL")


class _Transaction(BaseModel):
    model_config = ConfigDict(extra="ignore")
    succeeded: bool = False


Answer = TypeVar("Answer", bound=BaseModel)


class LeaseStore:
    """Patroni's keys for one scope. Reads are linearizable: a member without quorum gives none."""

    def __init__(self, client: httpx.AsyncClient, endpoints: Sequence[str], scope: str) -> None:
        self._client, self._endpoints, self._prefix = client, endpoints, f"/service/{scope}/"

    async def read(self, name: str) -> Key:
        """The key `leader` or `sync`. Raises QuorumUnreachableError."""
        pair = await self._pair(name)
        return Key(name, _text(pair), pair.mod_revision) if pair else Key(name, None, 0)

    async def seconds_left(self, holder: str) -> int:
        """How long the leader's lease still lasts unless it is renewed, where it is `holder`'s; else 0.

        Raises QuorumUnreachableError.
        """
        pair = await self._pair("leader")
        if pair is None or _text(pair) != holder:
            return 0
        return max(0, (await self._post("/v3/lease/timetolive", {"ID": str(pair.lease)}, _Lease)).ttl)

    async def delete_leader(self, leader: Key, sync: Key) -> bool:
        """Delete `leader` where neither key has been written since it was read; whether it was deleted."""
        request = {
            "compare": [
                {
                    "key": _b64(self._prefix + key.name),
                    "target": "MOD",
                    "result": "EQUAL",
                    "mod_revision": str(key.mod_revision),
                }
                for key in (leader, sync)
            ],
            "success": [{"request_delete_range": {"key": _b64(self._prefix + leader.name)}}],
        }
        return (await self._post("/v3/kv/txn", request, _Transaction)).succeeded

    async def _pair(self, name: str) -> _Pair | None:
        pairs = (await self._post("/v3/kv/range", {"key": _b64(self._prefix + name)}, _Range)).kvs
        return pairs[0] if pairs else None

    async def _post(self, path: str, body: Mapping[str, object], kind: type[Answer]) -> Answer:
        failure = "no endpoint is configured"
        for endpoint in self._endpoints:
            try:
                response = await self._client.post(endpoint + path, json=body)
                response.raise_for_status()
                return kind.model_validate_json(response.content)
            except (httpx.HTTPError, ValidationError) as error:
                failure = type(error).__name__
        raise QuorumUnreachableError(f"no etcd member answers for the quorum: {failure}")


def _text(pair: _Pair) -> str:
    return base64.b64decode(pair.value).decode()


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
