"""The people of an experiment: they decide what held runs wait for, while the deployment is in trouble."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from holdfast.client import HoldfastClient, NotAnsweredError

from chaos.history import Signal

RETRY_SECONDS = 0.3
TRY_SECONDS = 60.0


class Supervisors:
    """Decides runs, each begun after the other, until all are decided. Every try is recorded.

    A decision without an answer is sent again, as a person would press the button again.
    """

    def __init__(self, client: HoldfastClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._signals: list[Signal] = []
        self._threads: list[threading.Thread] = []

    def waiting(self, run_ids: Sequence[str]) -> dict[str, str]:
        """The call that each of these runs waits for, of those that wait."""
        found: dict[str, str] = {}
        for run_id in run_ids:
            try:
                calls = self._client.waiting(run_id)
            except NotAnsweredError:
                continue
            if calls:
                found[run_id] = calls[0].tool_call_id
        return found

    def decide(self, calls: dict[str, str], pace: float) -> None:
        """Begin to decide these calls, one every `pace` seconds: every third is denied."""
        thread = threading.Thread(target=self._decide, args=(calls, pace), name="supervisors", daemon=True)
        self._threads.append(thread)
        thread.start()

    def finish(self) -> list[Signal]:
        """Every try, once all have their answer or had none in their time."""
        for thread in self._threads:
            thread.join(TRY_SECONDS)
        with self._lock:
            return list(self._signals)

    def _decide(self, calls: dict[str, str], pace: float) -> None:
        with ThreadPoolExecutor(max(1, len(calls))) as pool:
            for number, (run_id, call_id) in enumerate(calls.items()):
                pool.submit(self._send, run_id, call_id, number % 3 != 2)
                time.sleep(pace)

    def _send(self, run_id: str, call_id: str, approved: bool) -> None:
        deadline = time.monotonic() + TRY_SECONDS
        while time.monotonic() < deadline:
            invoked = time.time()
            answer = self._client.approve(run_id, call_id, approved=approved, who="the bench")
            signal = Signal(
                run_id=run_id,
                call_id=call_id,
                approved=approved,
                invoked_at=invoked,
                answered_at=time.time(),
                outcome=answer.outcome,
                region=answer.region,
                detail=answer.detail,
            )
            with self._lock:
                self._signals.append(signal)
            if answer.outcome != "unknown":
                return
            time.sleep(RETRY_SECONDS)
