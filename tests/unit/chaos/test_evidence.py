"""Exports are replayed and verified by a fresh process, and each failure to do so says why."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from holdfast.client import NotAnsweredError
from pydantic_ai_dapr import Export

from chaos import evidence
from chaos.evidence import examined, gather
from infra.manifest import Manifest
from tests.support.deployments import manifest
from tests.support.signed_exports import SIGNER, Authority, signed
from tests.unit.holdfast.test_looking_back_commands import changed, refund

pytestmark = pytest.mark.unit
AGENT, MODEL = "refund_desk:hosted", "refund_desk:deterministic"


@pytest.fixture
def authority() -> Authority:
    return Authority()


def proven(authority: Authority, export: Export) -> Export:
    key = ec.generate_private_key(ec.SECP256R1())
    return signed(export, key, authority.workload(key))


class Exports:
    """A client of a region that hands these exports out."""

    def __init__(self, exports: dict[str, Export]) -> None:
        self.exports = exports

    def export(self, run_id: str) -> bytes:
        if run_id not in self.exports:
            raise NotAnsweredError("410: not whole any more")
        return self.exports[run_id].content()


def deployment(place: Path, authority: Authority) -> Manifest:
    made = manifest(place)
    made.ca.parent.mkdir(parents=True)
    made.ca.write_bytes(authority.anchors)
    settings = {"agent": AGENT, "model": MODEL, "max_iterations": 25.0}
    return made.model_copy(update={"signer": SIGNER, "settings": settings})


def test_what_was_exported_is_replayed_and_verified_elsewhere(tmp_path: Path, authority: Authority) -> None:
    exports = {
        "good": proven(authority, refund()),
        "unsigned": refund(),
        "forged": proven(authority, changed(refund(), b"lookup_policy", b"lookup_polizy")),
    }
    replays, proofs = gather(Exports(exports), deployment(tmp_path, authority), [*exports, "gone"], AGENT)  # type: ignore[arg-type]
    assert [(one.run_id, one.same) for one in replays] == [
        ("good", True),
        ("unsigned", True),
        ("forged", False),
        ("gone", None),
    ]
    assert "lookup_polizy" in replays[2].difference
    assert replays[0].actions > 5
    assert [(one.run_id, one.proven) for one in proofs] == [
        ("good", True),
        ("unsigned", False),
        ("forged", True),
        ("gone", None),
    ]
    assert (proofs[0].events, proofs[0].signers) == (len(refund().recorded), [SIGNER])
    assert proofs[1].reason.startswith("event 0: ")
    assert (replays[3].difference, proofs[3].reason) == ("410: not whole any more",) * 2


def test_where_nothing_was_exported_no_process_is_started(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a process was started"))
    assert gather(Exports({}), deployment(tmp_path, authority), [], AGENT) == ([], [])  # type: ignore[arg-type]


def test_a_process_that_says_nothing_leaves_the_answer_open(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="Traceback\n"))
    client: Any = Exports({"run-1": refund()})
    ((replay,), (proof,)) = gather(client, deployment(tmp_path, authority), ["run-1"], AGENT)
    assert (replay.same, proof.proven) == (None, None)
    assert replay.difference == proof.reason == "the process that replays gave no answer"


def test_a_file_that_is_no_export_is_neither_replayed_nor_proven(tmp_path: Path, authority: Authority) -> None:
    file = tmp_path / "run-1.json"
    file.write_text("{}")
    replay, proof = examined(file, AGENT, MODEL, 25, authority.anchors, SIGNER)
    assert (replay.run_id, replay.same, proof.proven) == ("run-1", None, None)
    assert "is no export" in replay.difference


def test_an_agent_or_a_root_that_is_not_there_leaves_its_answer_open(tmp_path: Path, authority: Authority) -> None:
    file = tmp_path / "run-1.json"
    refund().save(file)
    replay, proof = examined(file, "chaos.workload:Workload", MODEL, 25, b"no root", SIGNER)
    assert (replay.same, proof.proven) == (None, None)
    assert "is a type" in replay.difference
    assert proof.reason
