"""Whatever a correct deployment may do is never invalid, and one thing that it may not do is always found."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.checks.effects import effects_applied_once
from chaos.checks.reexecution import completed_operations_stay_completed
from chaos.checks.termination import accepted_starts_end
from chaos.checks.writers import Execution, executions, one_writer
from chaos.history import History
from tests.support.histories import attempt
from tests.support.simulation import STRANGER, correct

pytestmark = pytest.mark.unit


def operation_of(execution: Execution) -> str:
    return f"{execution.run_id}:{execution.ordinal}:"


def completion(history: History, run: str, ordinal: int) -> float:
    (workflow,) = [one for one in history.workflows or [] if one.run_id == run]
    tasks = {item.task_id for item in workflow.history or [] if item.ordinal == ordinal}
    return next(
        item.at for item in workflow.history or [] if item.type == "taskCompleted" and item.ok and item.task_id in tasks
    )


@settings(max_examples=80, deadline=None)
@given(correct())
def test_a_correct_deployment_is_never_called_invalid(history: History) -> None:
    for check in (accepted_starts_end, effects_applied_once, one_writer, completed_operations_stay_completed):
        found = check(history)
        assert (found.answer, found.witness) == ("valid", [])


@settings(max_examples=80, deadline=None)
@given(history=correct(), data=st.data())
def test_a_second_writer_is_always_found_with_its_operation(history: History, data: st.DataObject) -> None:
    victim = data.draw(st.sampled_from([one for one in executions(history) if one.ended - one.began > 0.005]))
    at = victim.began + data.draw(st.floats(0.1, 0.9)) * (victim.ended - victim.began)
    who: dict[str, Any] = {"pid": STRANGER, "worker": "stranger", "region": victim.region, "epoch": victim.epoch}
    assert history.attempts is not None
    history.attempts.append(attempt(victim.run_id, victim.ordinal, "started", at, **who))
    found = one_writer(history)
    assert found.answer == "invalid"
    assert any(line.startswith(operation_of(victim)) and "stranger" in line for line in found.witness)


@settings(max_examples=80, deadline=None)
@given(history=correct(), data=st.data())
def test_work_of_the_lost_region_in_the_new_epoch_is_always_found(history: History, data: st.DataObject) -> None:
    later = [one for one in executions(history) if one.epoch == 2]
    if not later:
        return
    one = data.draw(st.sampled_from(later))
    assert history.attempts is not None
    history.attempts.append(attempt("run-0", 77, "started", one.began, region="a", epoch=2, pid=STRANGER))
    assert "epoch 2: executed in regions a and b" in one_writer(history).witness


@settings(max_examples=80, deadline=None)
@given(history=correct(), data=st.data())
def test_an_execution_after_the_completion_is_always_found(history: History, data: st.DataObject) -> None:
    victim = data.draw(st.sampled_from(executions(history)))
    late = completion(history, victim.run_id, victim.ordinal) + data.draw(st.floats(0.01, 60))
    assert history.attempts is not None
    history.attempts.append(attempt(victim.run_id, victim.ordinal, "started", late, pid=STRANGER))
    found = completed_operations_stay_completed(history)
    assert found.answer == "invalid"
    assert len(found.witness) == 1
    assert found.witness[0].startswith(operation_of(victim))


@settings(max_examples=80, deadline=None)
@given(history=correct(), data=st.data())
def test_an_effect_applied_under_another_key_is_always_found(history: History, data: st.DataObject) -> None:
    assert history.effects is not None
    one = data.draw(st.sampled_from([one for one in history.effects if one.outcome == "applied"]))
    history.effects.append(one.model_copy(update={"seq": 900, "key": "another", "at": one.at + 1}))
    found = effects_applied_once(history)
    assert found.answer == "invalid"
    assert found.witness == [
        f"{one.run_id}: {one.kind} applied 2 times: ledger {one.seq} ({one.key}), ledger 900 (another)"
    ]


@settings(max_examples=80, deadline=None)
@given(history=correct(), data=st.data())
def test_a_lost_effect_is_always_found(history: History, data: st.DataObject) -> None:
    run = data.draw(st.sampled_from(history.accepted)).run_id
    kind = data.draw(st.sampled_from(["notifications", "refunds"]))
    history.effects = [one for one in history.effects or [] if (one.run_id, one.kind) != (run, kind)]
    assert effects_applied_once(history).witness == [f"{run}: completed, and the ledger has no {kind}"]


@settings(max_examples=80, deadline=None)
@given(history=correct(), data=st.data())
def test_a_run_that_is_lost_or_open_is_always_found(history: History, data: st.DataObject) -> None:
    assert history.workflows is not None
    number = data.draw(st.integers(0, len(history.workflows) - 1))
    status = data.draw(st.sampled_from(["running", "pending", "suspended", None]))
    one = history.workflows.pop(number)
    lost = data.draw(st.booleans())
    if not lost:
        history.workflows.append(one.model_copy(update={"status": status}))
    found = accepted_starts_end(history)
    assert found.answer == ("unknown" if status is None and not lost else "invalid")
    assert found.witness[0].startswith(f"{one.run_id}: ")


@settings(max_examples=60, deadline=None)
@given(history=correct(), body=st.text(st.characters(codec="utf-8"), max_size=40))
def test_a_history_is_read_back_as_it_was_written(history: History, body: str) -> None:
    history.operations[0] = history.operations[0].model_copy(update={"ticket": {"body": body}, "detail": body})
    with tempfile.TemporaryDirectory() as folder:
        history.save(Path(folder))
        assert History.load(Path(folder)) == history
