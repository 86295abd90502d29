"""Exports what runs did, and has it replayed and its signatures verified by a process that knows nothing of them.

`python -m chaos.evidence FOLDER AGENT MODEL MAX_ITERATIONS ROOT SIGNER` prints one JSON object a line.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.client import HoldfastClient, NotAnsweredError
from pydantic import TypeAdapter

from chaos.history import Proof, Replay
from infra.manifest import Manifest
from infra.state import project_root

if TYPE_CHECKING:
    from pydantic_ai_dapr import Export

EXPORTS = 40
"""Runs of one experiment that are exported; of more, the first ones."""
READERS = 4
REPLAY_SECONDS = 120.0
Evidence = tuple[list[Replay], list[Proof]]


def gather(client: HoldfastClient, manifest: Manifest, run_ids: Sequence[str], agent: str) -> Evidence:
    """A replay by that agent and a proof of each of these runs; what could not be made says why."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)

        def export(run_id: str) -> str | None:
            try:
                (folder / f"{run_id}.json").write_bytes(client.export(run_id))
            except NotAnsweredError as error:
                return str(error)
            return None

        with ThreadPoolExecutor(READERS) as pool:
            failures = dict(zip(run_ids, pool.map(export, run_ids), strict=True))
        found = _judged(folder, manifest, agent) if any(folder.iterdir()) else {}
    replays, proofs = list[Replay](), list[Proof]()
    for run_id in run_ids:
        why = failures[run_id]
        one = found.get(run_id) if why is None else None
        reason = why or "the process that replays gave no answer"
        replays.append(one[0] if one else Replay(run_id=run_id, same=None, difference=reason))
        proofs.append(one[1] if one else Proof(run_id=run_id, proven=None, reason=reason))
    return replays, proofs


def _judged(folder: Path, manifest: Manifest, agent: str) -> dict[str, tuple[Replay, Proof]]:
    settings = manifest.settings
    # A number passes through Pulumi as a double.
    words = [agent, str(settings["model"]), str(int(settings["max_iterations"]))]
    ran = subprocess.run(
        [sys.executable, "-m", "chaos.evidence", str(folder), *words, str(manifest.ca), manifest.signer],
        cwd=project_root(),
        capture_output=True,
        text=True,
        check=False,
        timeout=REPLAY_SECONDS,
    )
    pairs = [_PAIR.validate_json(line) for line in ran.stdout.splitlines() if line.startswith("[")]
    return {replay.run_id: (replay, proof) for replay, proof in pairs}


def examined(file: Path, agent: str, model: str, max_iterations: int, root: bytes, signer: str) -> tuple[Replay, Proof]:
    """The replay and the proof of an export."""
    from pydantic_ai_dapr import Export, ExportError

    try:
        history = Export.load(file)
    except ExportError as error:
        return (
            Replay(run_id=file.stem, same=None, difference=str(error)),
            Proof(run_id=file.stem, proven=None, reason=str(error)),
        )
    return _replay(file.stem, history, agent, model, max_iterations), _proof(file.stem, history, root, signer)


def _replay(run_id: str, history: Export, agent: str, model: str, max_iterations: int) -> Replay:
    from pydantic_ai.exceptions import UserError
    from pydantic_ai_dapr import PayloadLostError
    from service.replay import replayed

    try:
        report = replayed(history, agent, model, max_iterations)
    except (PayloadLostError, UserError, ValueError) as error:
        return Replay(run_id=run_id, same=None, difference=str(error))
    difference = str(report.difference) if report.difference else ""
    return Replay(run_id=run_id, same=report.same, actions=report.actions, difference=difference)


def _proof(run_id: str, history: Export, root: bytes, signer: str) -> Proof:
    from pydantic_ai_dapr import verify

    try:
        found = verify(history, root, signer)
    except ValueError as error:
        return Proof(run_id=run_id, proven=None, reason=str(error))
    reason = "" if found.valid else f"event {found.proven}: {found.reason}"
    return Proof(run_id=run_id, proven=found.valid, events=found.proven, signers=list(found.signers), reason=reason)


_PAIR = TypeAdapter(tuple[Replay, Proof])

if __name__ == "__main__":
    where, agent, model, most, anchors, signer = sys.argv[1:]
    root = Path(anchors).read_bytes()
    for file in sorted(Path(where).glob("*.json")):
        pair = examined(file, agent, model, int(most), root, signer)
        print(json.dumps([one.model_dump(mode="json") for one in pair]), flush=True)
