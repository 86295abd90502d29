"""The load of an experiment: a paced client that starts runs from tickets before, during and after a fault."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from holdfast.client import HoldfastClient
from pydantic import JsonValue
from refund_desk import Ticket

from chaos.history import ClientOperation

RETRY_SECONDS = 0.3
BURST_THREADS = 6
TRY_SECONDS = 60.0


def run_id_of(prefix: str, number: int, ticket: Ticket) -> str:
    """The id of the run of that number."""
    return f"{prefix}{number:04d}-{ticket.ticket_id}"


class Workload:
    """Starts a first burst at once, then one run every `pace` seconds, until stopped. Every try is recorded.

    A start without an answer is tried again under the same id, as a client of a durable service would.
    """

    def __init__(self, client: HoldfastClient, tickets: Sequence[Ticket], prefix: str, burst: int, pace: float) -> None:
        self._client, self._tickets, self._prefix = client, list(tickets), prefix
        self._burst, self._pace = burst, pace
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._run, name="workload", daemon=True)
        self._operations: list[ClientOperation] = []
        self._numbers = itertools.count()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def more(self, runs: int) -> None:
        """Start so many runs at once; returns when each has its answer."""
        with ThreadPoolExecutor(BURST_THREADS) as pool:
            for _ in range(runs):
                pool.submit(self._start, next(self._numbers))

    def hold(self, runs: int, seconds: float) -> list[str]:
        """Start so many runs that wait for a supervisor, for `seconds` each; returns those that were accepted."""
        with ThreadPoolExecutor(BURST_THREADS) as pool:
            tried = list(pool.map(lambda _: self._start(next(self._numbers), seconds), range(runs)))
        return [run_id for run_id in tried if run_id in self.accepted_ids()]

    def everywhere(self, clients: Sequence[HoldfastClient], copies: int) -> str:
        """Start one run `copies` times through each of these clients at once; returns its id."""
        run_id, payload = self._named(next(self._numbers), None)
        with ThreadPoolExecutor(len(clients) * copies) as pool:
            for client in [*clients] * copies:
                pool.submit(self._try, client, run_id, payload)
        return run_id

    def stop(self) -> None:
        """Start no further run; returns when the last start has its answer. May be repeated."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(60)

    @property
    def operations(self) -> list[ClientOperation]:
        """Every try so far."""
        with self._lock:
            return list(self._operations)

    @property
    def burst_is_accepted(self) -> bool:
        """Whether the first burst has been acknowledged."""
        return len(self.accepted_ids()) >= self._burst

    def accepted_ids(self) -> set[str]:
        """The runs that were acknowledged."""
        return {operation.run_id for operation in self.operations if operation.outcome == "ok"}

    def _run(self) -> None:
        self.more(self._burst)
        while not self._stop.wait(self._pace):
            self._start(next(self._numbers))

    def _start(self, number: int, hold_seconds: float | None = None) -> str:
        run_id, payload = self._named(number, hold_seconds)
        deadline = time.monotonic() + TRY_SECONDS
        while self._try(self._client, run_id, payload) == "unknown" and time.monotonic() < deadline:
            time.sleep(RETRY_SECONDS)
        return run_id

    def _named(self, number: int, hold_seconds: float | None) -> tuple[str, dict[str, JsonValue]]:
        ticket = self._tickets[number % len(self._tickets)].model_copy(update={"hold_seconds": hold_seconds})
        return run_id_of(self._prefix, number, ticket), ticket.model_dump(mode="json", exclude_none=True)

    def _try(self, client: HoldfastClient, run_id: str, payload: dict[str, JsonValue]) -> str:
        invoked = time.time()
        answer = client.start(run_id, payload)
        operation = ClientOperation(
            run_id=run_id,
            ticket=payload,
            invoked_at=invoked,
            answered_at=time.time(),
            outcome=answer.outcome,
            region=answer.region,
            detail=answer.detail,
        )
        with self._lock:
            self._operations.append(operation)
        return answer.outcome
