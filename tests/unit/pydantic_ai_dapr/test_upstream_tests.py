"""PydanticAI's own tests are counted so that a failure that nobody has explained is never a pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.upstream import __main__ as upstream

pytestmark = pytest.mark.unit


def test_a_folder_without_the_tests_is_told_and_not_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert upstream.main([str(tmp_path)]) == 2
    assert "has no tests/test_dbos.py; clone https://github.com/pydantic/pydantic-ai" in capsys.readouterr().out


def test_what_fails_on_dbos_too_does_not_apply_and_what_is_unknown_fails(capsys: pytest.CaptureFixture[str]) -> None:
    here = {"good": "", "old": "x", "test_dbos_agent": "x", "test_dynamic_toolset": "x", "test_agent_without_name": "x"}
    on_dbos = {"old": "y"}
    assert upstream.told(on_dbos, here) == 0
    table = capsys.readouterr().out
    for row in ("tests | 5", "fail on DBOS too, with this PydanticAI | 1", "**apply** | 3", "pass | 1"):
        assert f"| {row} |" in table
    assert upstream.told(on_dbos, here | {"new": "assert 1 == 2"}) == 1
    assert "new: assert 1 == 2" in capsys.readouterr().out


def test_no_test_at_all_is_no_answer() -> None:
    assert upstream.told({}, {}) == 2
