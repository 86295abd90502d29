"""The lease store: Patroni's keys in etcd, read from the quorum and deleted in one compared transaction."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError


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


class _Range(BaseModel):
    model_config = ConfigDict(extra="ignore")
    kvs: list[_Pair] = []


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
        full = self._prefix + name
        pairs = (await self._post("/v3/kv/range", {"key": _b64(full)}, _Range)).kvs
        if not pairs:
            return Key(name, None, 0)
        return Key(name, base64.b64decode(pairs[0].value).decode(), pairs[0].mod_revision)

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


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
