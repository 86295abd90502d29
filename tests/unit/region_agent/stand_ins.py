"""A clock, a supervisor and an etcd in memory; a test changes what they do and reads what was asked of them."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import httpx
from region_agent.supervisor import SupervisorError

_give_way = asyncio.sleep


class OverError(Exception):
    """Ends a loop that has no end of its own."""


class Clock:
    """Time that passes in the sleeps of coroutines alone; after each of them the next of `moments` happens.

    After the last one the loop is over.
    """

    def __init__(self, *moments: Callable[[], object]) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self._moments = iter(moments)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        moment = next(self._moments, None)
        if moment is None:
            raise OverError
        moment()
        await _give_way(0)


class ToldSupervisor:
    """A supervisor whose processes are numbers; what changes them is added to `did`."""

    def __init__(self, did: list[str] | None = None) -> None:
        self.pids: dict[str, int] = {}
        self.did: list[str] = [] if did is None else did
        self.refusing: set[str] = set()
        self._next = 100

    async def running(self) -> dict[str, int]:
        self._may("running")
        return dict(self.pids)

    async def start(self, process: str) -> None:
        self._may(f"start {process}")
        if process not in self.pids:
            self.did.append(f"start {process}")
            self.run(process)

    async def stop(self, process: str) -> None:
        self._may(f"stop {process}")
        if self.pids.pop(process, None) is not None:
            self.did.append(f"stop {process}")

    def run(self, *processes: str) -> None:
        """Each of these runs under a new id, as after a restart."""
        for process in processes:
            self._next += 1
            self.pids[process] = self._next

    def end(self, *processes: str) -> None:
        """None of these runs."""
        for process in processes:
            self.pids.pop(process, None)

    def _may(self, what: str) -> None:
        if what in self.refusing:
            raise SupervisorError(f"the supervisor refused {what}")


LEASE = 7587895555441836549


class MemoryEtcd:
    """Patroni's keys as one etcd member shows them; `before` happens before each request is served."""

    def __init__(self) -> None:
        self.keys: dict[str, tuple[str, int]] = {}
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.before: Callable[[str], object] = lambda path: None
        self.seconds_left = 17
        self._revision = 10

    def put(self, name: str, value: str) -> None:
        self._revision += 1
        self.keys[f"/service/holdfast/{name}"] = (value, self._revision)

    def value(self, name: str) -> str | None:
        return self.keys.get(f"/service/holdfast/{name}", (None, 0))[0]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path, body = request.url.path, json.loads(request.content)
        self.asked.append((request.url.host, path, body))
        self.before(path)
        answers = {"/v3/kv/range": self._range, "/v3/kv/txn": self._transaction, "/v3/lease/timetolive": self._left}
        return httpx.Response(200, json=answers[path](body))

    def _left(self, body: dict[str, Any]) -> dict[str, Any]:
        assert body == {"ID": str(LEASE)}
        return {"ID": body["ID"], "TTL": str(self.seconds_left), "grantedTTL": "20"}

    def _range(self, body: dict[str, Any]) -> dict[str, Any]:
        found = self.keys.get(_plain(body["key"]))
        if found is None:
            return {"header": {"revision": str(self._revision)}}
        value, revision = found
        text = base64.b64encode(value.encode()).decode()
        return {"kvs": [{"value": text, "mod_revision": str(revision), "lease": str(LEASE)}]}

    def _transaction(self, body: dict[str, Any]) -> dict[str, Any]:
        for compare in body["compare"]:
            assert (compare["target"], compare["result"]) == ("MOD", "EQUAL")
            if self.keys.get(_plain(compare["key"]), ("", 0))[1] != int(compare["mod_revision"]):
                return {"header": {}}
        for operation in body["success"]:
            self.keys.pop(_plain(operation["request_delete_range"]["key"]), None)
        return {"succeeded": True}


def _plain(text: str) -> str:
    return base64.b64decode(text).decode()


def client_of(answer: Callable[[httpx.Request], httpx.Response]) -> httpx.AsyncClient:
    """A client whose every request is answered by `answer`."""
    return httpx.AsyncClient(transport=httpx.MockTransport(answer))
