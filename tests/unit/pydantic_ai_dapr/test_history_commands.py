"""The commands on exports: what they print, and which exit code tells a failed check from one that wasn't made."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic_ai_dapr import DaprWorkflowAgentRunner
from pydantic_ai_dapr.__main__ import main

from tests.support import recorded_runs
from tests.support.recorded_runs import finished, recording, scripted
from tests.support.signed_exports import SIGNER, Authority, signed

pytestmark = pytest.mark.unit

TURNS: recorded_runs.Turns = [[("double", 1), ("double", 2)], [("breaks", 9)]]
AGENTS = SimpleNamespace(
    same=scripted(TURNS),
    factory=lambda: scripted(TURNS),
    runner=DaprWorkflowAgentRunner(scripted(TURNS), name="agent", port=1),
    other=scripted([], instructions="be brief"),
    number=7,
)


@pytest.fixture
def file(tmp_path: Path) -> str:
    finished(scripted(TURNS)).save(tmp_path / "run.json")
    return str(tmp_path / "run.json")


@pytest.fixture(autouse=True)
def _agents(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, agent in vars(AGENTS).items():
        monkeypatch.setattr(recorded_runs, name, agent, raising=False)


def test_the_steps_of_an_export_are_shown(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", file]) == 0
    told = capsys.readouterr().out
    assert "2 tool double, attempt 1, " in told
    assert '"args":{"n":1}' in told
    assert "  fail OperationFailedError" not in told
    assert "  fail ZeroDivisionError: by zero" in told
    assert main(["history", file, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["ordinal"] for line in lines] == [1, 2, 3, 4, 5]


def test_an_open_step_that_was_issued_again_is_shown_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, engine = recording(scripted(TURNS))
    engine.turn()
    engine.fail_over()
    engine.turn()
    engine.export().save(tmp_path / "run.json")
    assert main(["history", str(tmp_path / "run.json")]) == 0
    assert "1 model model, attempt 1, issued 2 times, 00:00:01, open" in capsys.readouterr().out


@pytest.mark.parametrize("agent", ["same", "factory", "runner"])
def test_an_agent_that_does_the_same_is_told(file: str, agent: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", file, "--agent", f"{recorded_runs.__name__}:{agent}"]) == 0
    assert "run-1: the code does the same, 7 actions" in capsys.readouterr().out


def test_an_agent_that_does_something_else_is_told_with_a_diff(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", file, "--agent", f"{recorded_runs.__name__}:other"]) == 1
    told = capsys.readouterr().out
    assert "the code does something else at event 3, operation 1:" in told
    assert re.search(r'^\+ +"instructions": "be brief"', told, re.MULTILINE)


@pytest.mark.parametrize(
    ("agent", "reason"),
    [
        ("no.such:module", "can't be loaded: No module named 'no'; name it as package.module:attribute"),
        (f"{recorded_runs.__name__}:number", "is a int; name an agent, a runner, or what makes one"),
    ],
)
def test_an_agent_that_cannot_be_had_is_told(
    file: str, agent: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", file, "--agent", agent]) == 2
    assert reason in capsys.readouterr().err


def test_a_verification_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority, key = Authority(), ec.generate_private_key(ec.SECP256R1())
    export = signed(finished(scripted(TURNS)), key, authority.workload(key))
    file, root = tmp_path / "run.json", tmp_path / "root.crt"
    root.write_bytes(authority.anchors)
    command = ["verify", str(file), "--trust-anchors", str(root)]
    export.save(file)
    assert main([*command, "--signer", SIGNER]) == 0
    assert f"{len(export.recorded)} of {len(export.recorded)} events are proven, signed by {SIGNER}" in _out(capsys)
    file.write_text(file.read_text().replace("by zero", "by hero", 1))
    assert main(command) == 1
    assert "`events` doesn't say what `recorded` has" in _out(capsys)
    end = {"recorded": export.recorded[:3], "events": export.events[:3], "signatures": export.signatures[:1]}
    export.model_copy(update=end).save(file)
    assert main(command) == 0
    assert "the history has no end: the run had not ended, or the end was cut off" in _out(capsys)


def test_a_file_that_is_missing_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "nowhere.json"]) == 2
    assert "nowhere.json" in capsys.readouterr().err


def test_a_sidecar_that_is_missing_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "--agent-name", "agent", "--port", "1"]) == 2
    assert "the sidecar answered" in capsys.readouterr().err


def _out(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out
