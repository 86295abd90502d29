"""Looks at a deployment during an experiment: what each region says of itself, and what a client is told of runs."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from holdfast.client import HoldfastClient, NotAnsweredError

from chaos.checks.cost import tokens_of
from chaos.checks.reexecution import completions
from chaos.history import TERMINAL, Observation, RoleSample, Workflow
from chaos.record import item_of
from infra.doors import Doors, Unanswered
from infra.manifest import Manifest

EVERY_SECONDS = 0.3
ANSWER_SECONDS = 1.0
"""What a region gets for an answer; none is a sample too."""


class Sampler:
    """Samples every region's role, and one run of `runs()` after the other, several times a second.

    Each region is asked in threads of its own, so that one that hangs hides no other.
    """

    def __init__(self, manifest: Manifest, runs: Callable[[], set[str]]) -> None:
        self._manifest, self._runs = manifest, runs
        self._roles: deque[RoleSample] = deque()
        self._seen: deque[Observation] = deque()
        self._ended: set[str] = set()
        self._stop = threading.Event()
        looks = (self._sample_roles, self._observe_runs)
        self._threads = [
            threading.Thread(target=look, args=(name,), name=f"{look.__name__} {name}", daemon=True)
            for name in manifest.regions
            for look in looks
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Look no more. May be repeated."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(4 * ANSWER_SECONDS)

    @property
    def roles(self) -> list[RoleSample]:
        """Every sample of a role so far, in order."""
        return sorted(self._roles, key=lambda sample: sample.at)

    @property
    def observations(self) -> list[Observation]:
        """Everything that a client was told of runs so far, in order."""
        return sorted(self._seen, key=lambda seen: seen.at)

    @property
    def has_seen_progress(self) -> bool:
        """Whether a client was told of a completed operation."""
        return any(seen.ordinals for seen in list(self._seen))

    def _sample_roles(self, region: str) -> None:
        with Doors(self._manifest, timeout=ANSWER_SECONDS) as doors:
            while not self._stop.wait(EVERY_SECONDS):
                self._roles.append(role_of(region, doors))

    def _observe_runs(self, region: str) -> None:
        token = self._manifest.api_token_file.read_text(encoding="utf-8").strip()
        api = {region: self._manifest.regions[region].api}
        client = HoldfastClient(api, ca=self._manifest.ca, token=token, timeout=ANSWER_SECONDS)
        waiting: deque[str] = deque()
        while not self._stop.wait(EVERY_SECONDS):
            waiting.extend(sorted(self._runs() - self._ended - set(waiting)))
            if not waiting or client.active_region() is None:
                continue
            run_id = waiting.popleft()
            seen = observed(run_id, region, client)
            if seen is not None:
                self._seen.append(seen)
                if seen.status in TERMINAL:
                    self._ended.add(run_id)
        client.close()


def role_of(region: str, doors: Doors) -> RoleSample:
    """What a region says of itself now."""
    agent, node = _asked(doors.agent_status, region), _asked(doors.patroni, region)
    members: Sequence[Mapping[str, Any]] = _asked(doors.cluster, region).get("members", ()) if node else ()
    mine = next((one for one in members if one.get("name") == region), {})
    place: Mapping[str, Any] = node.get("xlog") or {}
    lag = mine.get("lag")
    return RoleSample(
        at=time.time(),
        region=region,
        agent=agent.get("role"),
        epoch=agent.get("epoch"),
        database=node.get("role") if node.get("state") == "running" else None,
        timeline=node.get("timeline"),
        wal=place.get("location", place.get("received_location")),
        lag=lag if isinstance(lag, int) else None,
        lease=next((one["name"] for one in members if one.get("role") == "leader"), None),
    )


def observed(run_id: str, region: str, client: HoldfastClient) -> Observation | None:
    """What a client is told of a run now, or None where it is told nothing."""
    try:
        items = [item_of(event) for event in client.history(run_id, seconds=ANSWER_SECONDS)]
        ended = any(item.type == "executionCompleted" for item in items)
        status = getattr(client.run(run_id), "status", "unknown") if ended else "running"
    except NotAnsweredError:
        return None
    workflow = Workflow(run_id=run_id, status=status, history=items)
    done = completions(workflow)
    tokens = {ordinal: tokens for ordinal, tokens in tokens_of(workflow).items() if ordinal in done}
    return Observation(run_id=run_id, at=time.time(), region=region, status=status, ordinals=list(done), tokens=tokens)


def _asked(question: Callable[[str], Mapping[str, Any]], region: str) -> Mapping[str, Any]:
    try:
        return question(region)
    except Unanswered:
        return {}
