"""A history is replayed in a process of its own, whose answer is taken as it is and which never lasts."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace

import pytest
from pydantic_ai_dapr import Difference, Export, ReplayReport
from service import replay
from service.replay import Replayed, main, replayed_apart

from tests.support.recorded_runs import finished, scripted

pytestmark = pytest.mark.unit

DESK = "refund_desk:hosted"
MODEL = "refund_desk:deterministic"


@pytest.fixture
def export() -> Export:
    """A history of another agent's than the desk."""
    return finished(scripted([[("double", 4)]]))


def told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, content: bytes, agent: str
) -> tuple[int, Replayed]:
    monkeypatch.setattr(sys, "stdin", io.StringIO(content.decode()))
    code = main([agent, MODEL, "25"])
    return code, Replayed.model_validate_json(capsys.readouterr().out)


def test_code_that_does_something_else_is_shown_with_its_first_difference(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, export: Export
) -> None:
    differs = ReplayReport("run-1", 13, 2, Difference(4, 2, {"activity": "a"}, None))
    monkeypatch.setattr(replay, "replayed", lambda *given: differs)
    code, result = told(capsys, monkeypatch, export.content(), DESK)
    assert (code, result.actions, result.problem) == (1, 2, None)
    assert "event 4, operation 2" in str(result.difference)
    monkeypatch.setattr(replay, "replayed", lambda *given: replace(differs, difference=None))
    assert told(capsys, monkeypatch, export.content(), DESK) == (0, Replayed(events=13, actions=2))


@pytest.mark.parametrize(
    ("content", "agent", "problem"),
    [
        (b"{}", DESK, "Field required"),
        (b"[", DESK, "Expecting"),
        (None, "json:dumps", "not what a region hosts"),
    ],
)
def test_what_can_not_be_replayed_says_why(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    export: Export,
    content: bytes | None,
    agent: str,
    problem: str,
) -> None:
    code, result = told(capsys, monkeypatch, content or export.content(), agent)
    assert (code, problem in str(result.problem)) == (2, True)


def answer(monkeypatch: pytest.MonkeyPatch, stdout: bytes, stderr: bytes = b"", code: int = 0) -> list[list[str]]:
    commands: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        commands.append(command)
        assert options["timeout"] == replay.REPLAY_SECONDS
        return subprocess.CompletedProcess(command, code, stdout, stderr)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_the_process_is_told_the_agent_and_its_answer_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = answer(monkeypatch, json.dumps({"events": 3, "actions": 2}).encode())
    assert replayed_apart(b"x", DESK, MODEL, 7) == Replayed(events=3, actions=2)
    assert commands == [[sys.executable, "-m", "service.replay", DESK, MODEL, "7"]]


def test_a_process_that_dies_or_lasts_is_a_problem_not_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, b"", b"Traceback\nMemoryError: too large", code=-9)
    assert replayed_apart(b"x", DESK, MODEL, 7).problem == "the replay ended with status -9: MemoryError: too large"

    def late(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("replay", 60)

    monkeypatch.setattr(subprocess, "run", late)
    assert "did not end within 60 s" in str(replayed_apart(b"x", DESK, MODEL, 7).problem)
