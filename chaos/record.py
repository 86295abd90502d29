"""Collects what happened from where it was written down: ledger, workers, workflows, region agents."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from holdfast.client import HistoryView, HoldfastClient, NotAnsweredError, RefusedError

from chaos.history import AgentEvent, Attempt, Effect, HistoryItem, Workflow
from infra.manifest import Manifest

PAGE = 10_000
READERS = 8
LATEST_BYTES = 48 * 1024


class Ledger:
    """Reads the payments ledger."""

    def __init__(self, manifest: Manifest) -> None:
        token = manifest.payments_token_file.read_text(encoding="utf-8").strip()
        self._client = httpx.Client(
            base_url=manifest.payments.url,
            verify=ssl.create_default_context(cafile=str(manifest.ca)),
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
            timeout=10,
        )

    def effects(self, after: int = 0) -> list[Effect] | None:
        """Every entry after that one, or None where they can't be read."""
        found: list[Effect] = []
        while True:
            after = found[-1].seq if found else after
            try:
                response = self._client.get("/ledger", params={"after": after, "limit": PAGE})
                response.raise_for_status()
            except httpx.HTTPError:
                return None
            page = [Effect.model_validate(entry) for entry in response.json()]
            found += page
            if len(page) < PAGE:
                return found

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def record_attempts(manifest: Manifest, run_ids: set[str]) -> list[Attempt]:
    """What every worker of both regions, also of a killed one, wrote about these runs."""
    found: list[Attempt] = []
    for region in manifest.regions.values():
        for path in sorted(region.attempts_dir.glob("attempts-*.jsonl")):
            found += [Attempt.model_validate(line) for line in _lines(path) if line.get("run_id") in run_ids]
    return sorted(found, key=lambda attempt: attempt.at)


def latest_attempts(manifest: Manifest) -> list[Attempt]:
    """The last ones that every worker wrote down, in order."""
    paths = [path for region in manifest.regions.values() for path in region.attempts_dir.glob("attempts-*.jsonl")]
    found = [Attempt.model_validate(line) for path in paths for line in _lines(path, LATEST_BYTES)]
    return sorted(found, key=lambda attempt: attempt.at)


def record_events(manifest: Manifest, since: float) -> list[AgentEvent]:
    """What both region agents did since then, in order."""
    found: list[AgentEvent] = []
    for name, region in manifest.regions.items():
        found += [
            AgentEvent.model_validate({**line, "region": name})
            for line in _lines(region.events_file)
            if line["at"] >= since
        ]
    return sorted(found, key=lambda event: event.at)


def record_workflows(client: HoldfastClient, run_ids: Iterable[str]) -> list[Workflow]:
    """The state and the history of each run; without a status where nobody could tell."""
    with ThreadPoolExecutor(READERS) as pool:
        return [
            workflow for workflow in pool.map(lambda run_id: _workflow(client, run_id), sorted(run_ids)) if workflow
        ]


def _workflow(client: HoldfastClient, run_id: str) -> Workflow | None:
    try:
        run = client.run(run_id)
    except RefusedError as error:
        # Its region has said for good that it does not go on with it.
        return Workflow(run_id=run_id, status="failed", error=str(error), history=[])
    except NotAnsweredError:
        return Workflow(run_id=run_id, status=None)
    if run is None:
        return None
    try:
        history = [item_of(event) for event in client.history(run_id)]
    except NotAnsweredError:
        history = None
    return Workflow(run_id=run_id, status=run.status, output=run.output, error=run.error, history=history)


def item_of(event: HistoryView) -> HistoryItem:
    """What is kept of an event of a workflow's history."""
    given: dict[str, Any] = event.input if isinstance(event.input, dict) else {}
    made: dict[str, Any] = {}
    if isinstance(given.get("ordinal"), int):
        made = {name: given.get(name) for name in ("ordinal", "kind", "name", "attempt")}
        made["call_id"] = _inside(given, "params", "ctx", "tool_call_id")
    elif event.type == "eventRaised":
        made = {"name": event.name, "ok": given.get("kind") != "tool-denied"}
    elif isinstance(event.result, dict) and event.type == "taskCompleted":
        usage = _inside(event.result, "ok", "usage")
        tokens = [usage.get(f"{way}_tokens") or 0 for way in ("input", "output")] if isinstance(usage, dict) else None
        made = {"ok": "ok" in event.result, "tokens": sum(tokens) if tokens else None}
    return HistoryItem(
        sequence=event.sequence,
        type=event.type,
        at=datetime.fromisoformat(event.timestamp).timestamp(),
        task_id=event.task_id,
        due=datetime.fromisoformat(event.due).timestamp() if event.due else None,
        **made,
    )


def _inside(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _lines(path: Path, last_bytes: int | None = None) -> list[dict[str, Any]]:
    """The whole JSON lines of a file; a last line that a killed process left half-written is no line."""
    found: list[dict[str, Any]] = []
    if path.exists():
        with path.open("rb") as file:
            if last_bytes is not None:
                file.seek(max(0, path.stat().st_size - last_bytes))
            text = file.read().decode(errors="replace")
        for line in text.splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return found
