"""A log is one JSON object a line, and each says where it happened."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timedelta

import pytest
from serving.logs import JsonLines, log_to_stderr

pytestmark = pytest.mark.unit


def record(message: str, *args: object, **more: object) -> logging.LogRecord:
    made = logging.LogRecord("service.worker", logging.WARNING, __file__, 1, message, args, None)
    vars(made).update(more)
    return made


def test_a_record_is_one_line_with_time_level_logger_and_message() -> None:
    made = record("run %s\nis “late”", "r-1")
    line = JsonLines().format(made)
    assert "\n" not in line
    told = json.loads(line)
    at = datetime.fromisoformat(told.pop("at"))
    assert at.utcoffset() == timedelta(0)
    assert at.timestamp() == pytest.approx(made.created, abs=0.001)
    assert told == {"level": "WARNING", "logger": "service.worker", "message": "run r-1\nis “late”"}


def test_what_the_process_knows_is_in_each_line_and_what_a_record_knows_goes_before() -> None:
    lines = JsonLines(lambda: {"region": "a", "epoch": 3})
    assert json.loads(lines.format(record("x")))["epoch"] == 3
    told = json.loads(lines.format(record("x", about={"epoch": 4, "run_id": "r-1"})))
    assert (told["region"], told["epoch"], told["run_id"]) == ("a", 4, "r-1")


def test_an_exception_is_part_of_its_line() -> None:
    try:
        raise ValueError("no such thing")
    except ValueError:
        line = JsonLines().format(record("failed", exc_info=sys.exc_info()))
    assert json.loads(line)["exception"].endswith("ValueError: no such thing")


def test_standard_error_gets_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    log_to_stderr(lambda: {"region": "b"})
    logging.getLogger("httpx").info("a request, of which there are many")
    logging.getLogger("region_agent").info("promoted")
    (line,) = capsys.readouterr().err.splitlines()
    assert (json.loads(line)["message"], json.loads(line)["region"]) == ("promoted", "b")
