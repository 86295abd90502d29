"""A checker calls a good history valid, finds what is wrong with a bad one, and never guesses without evidence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.checks import CHECKS, judge
from chaos.checks.assumptions import assumptions_hold
from chaos.checks.reexecution import completed_operations_stay_completed
from chaos.history import Bounds, Fault, History, HistoryItem, Workflow, in_doubt
from chaos.verdict import CheckResult, combined, result
from tests.support.histories import (
    FAULT_AT,
    IN_HAND,
    LOST_PID,
    OTHER_PID,
    RUNS,
    WORKER_PID,
    attempt,
    effect,
    region_loss,
    run_id,
)

pytestmark = pytest.mark.unit
NAMES = list(CHECKS)


def changed(item: Any, **changes: Any) -> Any:
    return item.model_copy(update=changes)


def answer(name: str, history: History) -> CheckResult:
    found = CHECKS[name](history)
    assert found is not None
    return found


def test_a_history_in_which_everything_went_right_is_valid() -> None:
    results = judge(region_loss())
    assert [(one.check, one.answer) for one in results] == [(name, "valid") for name in NAMES]
    counts = {one.check: one.counts for one in results}
    assert counts["K5"]["executed-again-in-flight"] == RUNS
    assert counts["K2"]["duplicate-attempted"] == RUNS
    assert counts["K12"] == {
        "in-flight": RUNS,
        "effects-in-doubt": RUNS,
        "accepted-before": RUNS,
        "accepted-after": 1,
        "clocks-ms": 0,
    }


def lose_a_run(history: History) -> None:
    assert history.workflows is not None
    del history.workflows[4]


def leave_a_run_open(history: History) -> None:
    assert history.workflows is not None
    history.workflows[4] = changed(history.workflows[4], status="running")


def apply_twice(history: History) -> None:
    assert history.effects is not None
    history.effects.append(effect(run_id(4), "notifications", 9, FAULT_AT + 6, 999))


def lose_an_effect(history: History) -> None:
    assert history.effects is not None
    history.effects = [one for one in history.effects if (one.run_id, one.kind) != (run_id(4), "notifications")]


def overlap(history: History) -> None:
    assert history.attempts is not None
    began = next(one for one in history.attempts if one.run_id == run_id(4) and one.at > FAULT_AT)
    history.attempts.append(attempt(run_id(4), began.ordinal, "started", began.at + 0.01, pid=OTHER_PID))


def work_in_two_regions(history: History) -> None:
    assert history.attempts is not None
    history.attempts.append(attempt(run_id(4), 99, "started", FAULT_AT + 7, region="a", epoch=2, pid=OTHER_PID))
    history.attempts.append(attempt(run_id(4), 99, "ended", FAULT_AT + 7.1, region="a", epoch=2, pid=OTHER_PID))


def repeat_a_completed_operation(history: History) -> None:
    assert history.attempts is not None
    history.attempts.append(attempt(run_id(4), 1, "started", FAULT_AT + 8))
    history.attempts.append(attempt(run_id(4), 1, "ended", FAULT_AT + 8.1))


def decide_otherwise(history: History) -> None:
    assert history.workflows is not None
    one = history.workflows[4]
    assert isinstance(one.output, dict)
    output = one.output["output"]
    assert isinstance(output, dict)
    history.workflows[4] = changed(one, output={"output": output | {"amount": "9999.00"}})


def decide_nonsense(history: History) -> None:
    assert history.workflows is not None
    history.workflows[4] = changed(history.workflows[4], output={"output": {"outcome": "perhaps"}})


def answer_with_text(history: History) -> None:
    assert history.workflows is not None
    history.workflows[4] = changed(history.workflows[4], output="no decision at all")


def fail_a_run(history: History) -> None:
    assert history.workflows is not None
    history.workflows[4] = changed(history.workflows[4], status="failed", error="model: gone", output=None)


@pytest.mark.parametrize(
    ("spoil", "checker", "told"),
    [
        (lose_a_run, "K1", "accepted by region a, and nobody knows it"),
        (leave_a_run_open, "K1", "still running"),
        (apply_twice, "K2", "notifications applied 2 times"),
        (lose_an_effect, "K2", "completed, and the ledger has no notifications"),
        (overlap, "K4", "at once"),
        (repeat_a_completed_operation, "K5", "after it had completed"),
        (decide_otherwise, "K10", "9999.00, not"),
        (decide_nonsense, "K10", "its result is no decision"),
        (answer_with_text, "K10", "its result is no decision"),
        (fail_a_run, "K10", "failed: model: gone"),
    ],
)
def test_what_went_wrong_is_found_with_its_run(spoil: Callable[[History], None], checker: str, told: str) -> None:
    history = region_loss()
    spoil(history)
    found = answer(checker, history)
    assert found.answer == "invalid"
    assert len(found.witness) == 1
    assert found.witness[0].startswith(run_id(4))
    assert told in found.witness[0]
    assert combined(judge(history)) == "invalid"


def test_two_regions_at_work_in_one_epoch_are_found() -> None:
    history = region_loss()
    work_in_two_regions(history)
    assert answer("K4", history).witness == ["epoch 2: executed in regions a and b"]


def test_a_second_writer_is_found_though_the_first_began_again_in_between() -> None:
    first, again = (attempt("run-1", 1, "started", at, attempt=number) for number, at in ((1, 10.0), (2, 11.0)))
    ends = [attempt("run-1", 1, "ended", 11.5, attempt=2), attempt("run-1", 1, "ended", 20.0, attempt=1)]
    second = attempt("run-1", 1, "started", 15.0, pid=OTHER_PID, worker="worker-2")
    found = answer("K4", History(experiment="x", attempts=[first, again, *ends, second]))
    assert found.answer == "invalid"
    assert found.witness == [
        f"run-1:1: executed by a/worker-1 (pid {LOST_PID}, epoch 1) and a/worker-2 (pid {OTHER_PID}, epoch 1) at once"
    ]


def test_an_execution_that_its_kill_ended_overlaps_nothing_later() -> None:
    history = region_loss()
    assert answer("K4", history).answer == "valid"
    history.faults = [changed(history.faults[0], killed=[])]
    assert answer("K4", history).answer == "invalid"


def test_a_delivery_that_joined_is_no_execution() -> None:
    history = region_loss()
    assert history.attempts is not None
    history.attempts.append(attempt(run_id(4), 1, "started", FAULT_AT + 8, joined=True))
    assert answer("K4", history).answer == "valid"
    assert answer("K5", history).answer == "valid"


def test_a_completed_operation_that_no_worker_wrote_of_is_missing_evidence() -> None:
    history = region_loss()
    history.attempts = [one for one in history.attempts or [] if (one.run_id, one.ordinal) != (run_id(4), 2)]
    found = answer("K5", history)
    assert found.answer == "unknown"
    assert found.witness == [f"{run_id(4)}:2: completed, and no worker wrote that it was executed"]


def test_an_execution_after_a_completion_counts_as_nothing_else() -> None:
    history = region_loss()
    repeat_a_completed_operation(history)
    assert history.attempts is not None
    # The first execution of it left no trace: its worker was killed before it had written.
    history.attempts = [one for one in history.attempts if (one.run_id, one.at < FAULT_AT) != (run_id(4), True)]
    counts = answer("K5", history).counts
    assert (counts["executed-again-completed"], counts["executed-again-in-flight"]) == (1, RUNS - 1)


def test_an_attempt_that_failed_completes_nothing() -> None:
    history = region_loss()
    assert history.workflows is not None
    items = [
        changed(item, ok=False) if item.type == "taskCompleted" and item.task_id == 1 else item
        for item in history.workflows[4].history or []
    ]
    history.workflows[4] = changed(history.workflows[4], history=items)
    repeat_a_completed_operation(history)
    assert answer("K5", history).answer == "valid"


@pytest.mark.parametrize(
    ("part", "checkers"),
    [
        ("effects", ["K2", "K12"]),
        ("attempts", ["K4", "K5", "K12", "K13"]),
        ("workflows", ["K1", "K2", "K3", "K5", "K7", "K8", "K9", "K10", "K12"]),
        ("observations", ["K3"]),
        ("roles", ["K4"]),
        ("replays", ["K6"]),
        ("signals", ["K8"]),
        ("proofs", ["K11"]),
    ],
)
def test_without_evidence_the_answer_is_unknown(part: str, checkers: list[str]) -> None:
    history = region_loss()
    setattr(history, part, None)
    assert [one.check for one in judge(history) if one.answer == "unknown"] == checkers
    assert combined(judge(history)) == "unknown"


def test_a_run_whose_state_or_history_could_not_be_read_is_unknown() -> None:
    history = region_loss()
    assert history.workflows is not None
    history.workflows[4] = changed(history.workflows[4], status=None, history=None)
    assert answer("K1", history).answer == "unknown"
    assert answer("K5", history).witness == [f"{run_id(4)}: its history could not be read"]


def test_no_execution_at_all_proves_nothing() -> None:
    history = region_loss()
    history.attempts = []
    assert answer("K4", history).answer == "unknown"
    history.workflows = []
    history.operations = []
    assert answer("K10", history).answer == "unknown"


def no_fault(history: History) -> None:
    history.faults = []


def unproven(history: History) -> None:
    history.faults = [changed(history.faults[0], proven=False)]


def too_few(history: History) -> None:
    history.bounds = Bounds(minimum_in_flight=RUNS + 1)


def no_doubt(history: History) -> None:
    history.effects = []


def nothing_before(history: History) -> None:
    history.operations = [changed(one, answered_at=FAULT_AT + 20) for one in history.operations]


def nothing_after(history: History) -> None:
    del history.operations[-1]


def wrong_clock(history: History) -> None:
    assert history.attempts is not None
    history.attempts[0] = changed(history.attempts[0], at=FAULT_AT - 90_000)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (no_fault, "no fault was injected"),
        (unproven, "no evidence that it was in force"),
        (too_few, f"{RUNS} runs were in flight at the fault, at least {RUNS + 1} were promised"),
        (no_doubt, "no effect was applied and unanswered"),
        (nothing_before, "no starts were accepted before the fault"),
        (nothing_after, "no starts were accepted after the fault"),
        (wrong_clock, "the clocks disagree"),
    ],
)
def test_a_promise_that_was_not_kept_makes_it_unknown(spoil: Callable[[History], None], told: str) -> None:
    history = region_loss()
    spoil(history)
    found = answer("K12", history)
    assert found.answer == "unknown"
    assert any(told in line for line in found.witness)


def test_an_effect_is_in_doubt_until_its_run_ends_an_operation() -> None:
    made = effect("run-1", "notes", 3, 10.0, 1)
    before, after = attempt("run-1", 2, "ended", 9.0), attempt("run-1", 3, "ended", 11.0)
    assert in_doubt([made], [before], 10.5) == [made]
    assert in_doubt([made], [before, after], 11.5) == []
    assert in_doubt([made], [before, after], 10.5) == [made]
    assert in_doubt([made], [], 9.5) == []
    assert in_doubt([changed(made, outcome="duplicate")], [], 10.5) == []


def test_effects_of_other_runs_are_nobodys_business() -> None:
    history = region_loss()
    assert history.effects is not None
    history.effects += [effect("somebody-else", "refunds", 1, FAULT_AT, 900 + number) for number in range(2)]
    assert answer("K2", history).answer == "valid"


def test_only_the_first_witnesses_are_kept() -> None:
    assert len(result("K1", "claim", {}, [str(number) for number in range(100)], []).witness) == 20


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["valid", "valid"], "valid"),
        (["valid", "unknown"], "unknown"),
        (["unknown", "invalid"], "invalid"),
        ([], "unknown"),
    ],
)
def test_one_invalid_check_outweighs_all_others(answers: list[Any], expected: str) -> None:
    results = [CheckResult(check="K", claim="", answer=one) for one in answers]
    assert combined(results) == expected


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_an_operation_executed_after_its_completion_is_always_found(data: st.DataObject) -> None:
    history = region_loss(6)
    history.bounds = Bounds(minimum_in_flight=1)
    assert history.attempts is not None
    number, ordinal = data.draw(st.integers(0, 5)), data.draw(st.integers(1, 5))
    late = data.draw(st.floats(0.01, 50))
    assert history.workflows is not None
    items = history.workflows[number].history or []
    done = next(item.at for item in items if item.type == "taskCompleted" and item.task_id == ordinal)
    assert answer("K5", history).answer == "valid"
    history.attempts.append(attempt(run_id(number), ordinal, "started", done + late, pid=WORKER_PID))
    found = answer("K5", history)
    assert found.answer == "invalid"
    assert found.witness[0].startswith(f"{run_id(number)}:{ordinal}:")


@settings(max_examples=60, deadline=None)
@given(
    number=st.integers(0, 5),
    ordinal=st.integers(1, 5),
    share=st.floats(0.05, 0.95),
)
def test_two_processes_at_one_operation_are_always_found(number: int, ordinal: int, share: float) -> None:
    history = region_loss(6)
    assert history.attempts is not None
    mine = [one for one in history.attempts if (one.run_id, one.ordinal) == (run_id(number), ordinal)]
    began, ended = mine[-2].at, mine[-1].at
    history.attempts.append(attempt(run_id(number), ordinal, "started", began + share * (ended - began), pid=OTHER_PID))
    assert answer("K4", history).answer == "invalid"


def test_the_builder_is_what_it_says() -> None:
    history = region_loss()
    assert history.in_flight_at(FAULT_AT) == {run_id(number) for number in range(RUNS)}
    assert {one.ordinal for one in history.attempts or [] if one.pid == LOST_PID} == {1, 2, IN_HAND}


@pytest.mark.parametrize(("again_at", "answer"), [(3.9, "valid"), (4.5, "invalid")])
def test_k5_a_result_is_in_the_history_when_the_next_turn_begins(again_at: float, answer: str) -> None:
    # The sidecar was frozen from 0.4 to 4: the turn that had heard of the result was not saved.
    items = [
        HistoryItem(sequence=0, type="taskScheduled", at=0.0, task_id=1, ordinal=1),
        HistoryItem(sequence=1, type="workflowStarted", at=0.3),
        HistoryItem(sequence=2, type="taskCompleted", at=0.2, task_id=1, ok=True),
        HistoryItem(sequence=3, type="taskScheduled", at=0.4, task_id=2, ordinal=2),
        HistoryItem(sequence=4, type="workflowStarted", at=4.1),
        HistoryItem(sequence=5, type="taskCompleted", at=4.1, task_id=2, ok=True),
    ]
    attempts = [
        attempt("run-1", 1, "started", 0.0),
        attempt("run-1", 1, "ended", 0.1),
        attempt("run-1", 1, "started", again_at),
        attempt("run-1", 2, "started", 4.05),
    ]
    history = History(
        experiment="x", attempts=attempts, workflows=[Workflow(run_id="run-1", status="completed", history=items)]
    )
    assert completed_operations_stay_completed(history).answer == answer


@pytest.mark.parametrize(("fault_at", "milliseconds"), [(10.0, 3000), (0.5, 0)])
def test_k12_a_turn_that_a_fault_broke_off_may_be_noted_after_its_execution(fault_at: float, milliseconds: int) -> None:
    items = [HistoryItem(sequence=0, type="taskScheduled", at=4.0, task_id=1, ordinal=1)]
    history = History(
        experiment="x",
        attempts=[attempt("run-1", 1, "started", 1.0)],
        workflows=[Workflow(run_id="run-1", status="completed", history=items)],
        faults=[Fault(name="x", target="y", at=fault_at, proven=True)],
    )
    assert assumptions_hold(history).counts["clocks-ms"] == milliseconds
