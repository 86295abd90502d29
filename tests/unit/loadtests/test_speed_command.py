"""What the command refuses, and what it says of a run that could not be made."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.toolchain import ToolchainError
from loadtests.library import __main__ as command
from loadtests.library.cells import FULL, QUICK, Figures

pytestmark = pytest.mark.unit


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would have been measured, instead of measuring it."""
    calls: list[Any] = []

    @contextlib.contextmanager
    def no_stack(_: Path) -> Iterator[None]:
        yield

    def no_measure(_: None, environments: Path, *rest: Any) -> Figures:
        calls.append((environments, *rest[:2]))
        rest[2]("measuring")
        return Figures()

    monkeypatch.setattr(command, "stack", no_stack)
    monkeypatch.setattr(command, "measure", no_measure)
    return calls


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--only", "plain,fast"],
            "no contender is called fast; there are plain, holdfast, engine, dbos, temporal, diagrid",
        ),
        (["--only", ","], "no contender was named; there are plain"),
        (["--page", "nowhere.md"], "nowhere.md is not a file that can be written: name a Markdown page that exists"),
        (["--fast"], "unrecognized arguments: --fast"),
    ],
)
def test_bad_input_is_refused(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        command.main(arguments)
    assert refused.value.code == 2
    assert said in capsys.readouterr().err


def test_a_page_without_marks_is_refused_before_anything_is_measured(
    asked: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing")
    with pytest.raises(SystemExit) as refused:
        command.main(["--page", str(page), "--state", str(tmp_path)])
    assert refused.value.code == 2
    assert "has no place for results" in capsys.readouterr().err
    assert not asked


def test_help_has_examples_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "python -m loadtests.library --only plain,holdfast,dbos" in text
    assert "exit codes: 0 every bar holds" in text


def test_everything_is_asked_for_by_default_and_kept_in_the_state_directory(asked: list[Any], tmp_path: Path) -> None:
    assert command.main(["--state", str(tmp_path)]) == 2
    names = ["plain", "holdfast", "engine", "dbos", "temporal", "diagrid"]
    assert asked == [(tmp_path / "benchmarks/environments", FULL, names)]
    assert sorted(one.name for one in (tmp_path / "benchmarks/results").iterdir()) == [
        "report.html",
        "results.json",
        "results.md",
    ]


def test_a_quick_run_of_some_prints_one_object_for_scripts(
    asked: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--quick", "--json", "--only", "dbos, plain,dbos", "--state", str(tmp_path)]) == 2
    assert asked[0][1:] == (QUICK, ["dbos", "plain"])
    output = capsys.readouterr()
    assert json.loads(output.out)["exit_status"] == 2
    assert "0:00  measuring" in output.err


def test_a_missing_tool_is_told_with_what_to_do(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_database(_: Path) -> None:
        raise ToolchainError("PostgreSQL is missing: run `make setup`")

    monkeypatch.setattr(command, "stack", no_database)
    assert command.main(["--state", str(tmp_path)]) == 2
    assert "error: PostgreSQL is missing: run `make setup`" in capsys.readouterr().err
    assert not asked


def test_an_interrupted_run_writes_nothing(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "measure", interrupted)
    assert command.main(["--state", str(tmp_path)]) == 2
    assert "interrupted; nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "benchmarks/results").exists()
