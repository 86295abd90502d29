"""Recovery time by phase, and a report from which the verdict can be made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.history import Fault, History
from chaos.recovery import recovery
from chaos.report import PAGE, VERDICT, Verdict, verdict_of, write_report
from tests.support.histories import FAULT_AT, LOST_PID, attempt, region_loss, run_id

pytestmark = pytest.mark.unit


def test_the_phases_of_a_region_loss_add_up() -> None:
    found = recovery(region_loss())
    assert (found.detect, found.promote, found.activate, found.resume) == (3.5, 0.5, 0.3, 0.7)
    assert found.rto == 5.0
    assert found.early_release
    assert (found.rpo_events, found.rpo_seconds) == (0, 0.0)
    assert found.moved == []


def test_without_an_early_release_detection_lasts_until_the_promotion() -> None:
    history = region_loss()
    history.events = [event for event in history.events or [] if event.event != "early-release"]
    found = recovery(history)
    assert (found.detect, found.promote, found.early_release) == (4.0, 0.0, False)
    assert found.rto == 5.0


def test_a_planned_switchover_has_nothing_to_detect() -> None:
    history = region_loss()
    history.events = [event for event in history.events or [] if event.event != "early-release"]
    history.faults = [Fault(name="switchover", target="region b", at=FAULT_AT, proven=True)]
    found = recovery(history)
    assert (found.detect, found.promote) == (None, 4.0)


def test_a_phase_that_was_not_seen_is_left_open() -> None:
    history = region_loss()
    history.events, history.attempts = [], []
    found = recovery(history)
    assert (found.detect, found.activate, found.resume, found.rto) == (None, None, None, None)


def test_a_recovery_counts_from_what_took_something_away() -> None:
    history = region_loss()
    history.faults.insert(0, Fault(name="burst", target="region API", at=FAULT_AT - 20, proven=True))
    assert recovery(history).rto == 5.0
    history.faults = history.faults[:1]
    assert recovery(history).detect == 23.5


def test_without_a_fault_there_is_nothing_to_recover_from() -> None:
    history = region_loss()
    history.faults = []
    assert recovery(history).rto is None


def test_a_crashed_workers_runs_are_followed_to_the_last() -> None:
    history = region_loss(3)
    history.faults = [Fault(name="worker-crash", target="worker-1", at=FAULT_AT, killed=[LOST_PID], proven=True)]
    found = recovery(history)
    assert (found.rto, found.moved) == (5.0, [5.0, 5.0, 5.0])
    assert history.attempts is not None
    history.attempts.append(attempt(run_id(2), 3, "started", FAULT_AT + 1))
    assert recovery(history).rto == 1.0
    assert recovery(history).moved == [1.0, 5.0, 5.0]


def test_what_was_accepted_and_is_unknown_is_lost() -> None:
    history = region_loss()
    assert history.workflows is not None
    del history.workflows[4]
    found = recovery(history)
    assert found.rpo_events == 1
    assert found.rpo_seconds == pytest.approx(1.01)
    history.workflows = None
    assert (recovery(history).rpo_events, recovery(history).rpo_seconds) == (None, None)


def test_a_report_holds_everything_that_its_verdict_stands_on(tmp_path: Path) -> None:
    history = region_loss()
    verdict = verdict_of(history, "a-bug")
    page = write_report(tmp_path, history, verdict)
    assert page == tmp_path / PAGE
    assert Verdict.model_validate_json((tmp_path / VERDICT).read_text()) == verdict
    again = History.load(tmp_path / "history")
    assert verdict_of(again, "a-bug") == verdict
    text = page.read_text()
    assert "valid: region-loss" in text
    assert "5.00 s later" in text
    assert run_id(4) in text


def test_a_missing_file_is_missing_evidence(tmp_path: Path) -> None:
    region_loss().save(tmp_path)
    (tmp_path / "effects.jsonl").unlink()
    assert History.load(tmp_path).effects is None
