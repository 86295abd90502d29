"""One thing that must not happen, anywhere in a correct history, is found by the checker for it: mutation × checker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chaos.checks import CHECKS
from chaos.checks.reexecution import completions
from chaos.checks.timers import alarms
from chaos.checks.writers import executions
from chaos.history import Effect, History, HistoryItem, Workflow
from tests.support.histories import FAULT_AT, attempt
from tests.support.simulation import CALL, STRANGER, correct

pytestmark = pytest.mark.unit
Mutation = Callable[[History, st.DataObject], str]
"""Spoils a history at a place that is drawn; returns what the witness must name."""

ALWAYS_DECIDABLE = [name for name in CHECKS if name not in ("K10", "K12", "C")]
"""What a drawn history has evidence for: its tickets are empty, so is its load, and it claims nothing."""


def pick(data: st.DataObject, items: Any) -> Any:
    chosen = list(items)
    assume(chosen)
    return data.draw(st.sampled_from(chosen))


def any_run(history: History, data: st.DataObject) -> Workflow:
    return pick(data, history.workflows)


def put(whole: History, workflow: Workflow, **changes: Any) -> None:
    assert whole.workflows is not None
    whole.workflows[whole.workflows.index(workflow)] = workflow.model_copy(update=changes)


def items(workflow: Workflow) -> list[HistoryItem]:
    return list(workflow.history or [])


def amend(records: list[Any] | None, one: Any, **changes: Any) -> list[Any]:
    return [other.model_copy(update=changes) if other is one else other for other in records or []]


def lose_a_run(history: History, data: st.DataObject) -> str:
    one = any_run(history, data)
    assert history.workflows is not None
    history.workflows.remove(one)
    return f"{one.run_id}: "


def leave_a_run_open(history: History, data: st.DataObject) -> str:
    one = any_run(history, data)
    put(history, one, status="running")
    return f"{one.run_id}: still running"


def accept_another_input(history: History, data: st.DataObject) -> str:
    one = pick(data, history.accepted)
    history.operations.append(one.model_copy(update={"ticket": {"another": True}}))
    return f"{one.run_id}: accepted with two"


def refuse_what_was_accepted(history: History, data: st.DataObject) -> str:
    one = pick(data, history.accepted)
    later = {"outcome": "refused", "invoked_at": one.answered_at + 1, "answered_at": one.answered_at + 2}
    history.operations.append(one.model_copy(update=later))
    return f"{one.run_id}: accepted, and refused"


def applied(history: History) -> list[Effect]:
    return [one for one in history.effects or [] if one.outcome == "applied"]


def apply_under_another_key(history: History, data: st.DataObject) -> str:
    one = pick(data, applied(history))
    assert history.effects is not None
    history.effects.append(one.model_copy(update={"seq": 900, "key": "another"}))
    return f"{one.run_id}: {one.kind} applied 2 times"


def lose_an_effect(history: History, data: st.DataObject) -> str:
    run = any_run(history, data).run_id
    kind = data.draw(st.sampled_from(["notifications", "refunds"]))
    history.effects = [one for one in history.effects or [] if (one.run_id, one.kind) != (run, kind)]
    return f"{run}: completed, and the ledger has no {kind}"


def apply_what_nobody_asked_for(history: History, data: st.DataObject) -> str:
    one = pick(data, applied(history))
    assert history.effects is not None
    history.effects.append(one.model_copy(update={"seq": 900, "kind": "gifts", "key": f"{one.run_id}:999"}))
    return f"{one.run_id}: gifts applied under {one.run_id}:999"


def lose_what_was_told(history: History, data: st.DataObject) -> str:
    told = pick(data, [one for one in history.observations or [] if one.ordinals])
    (workflow,) = [one for one in history.workflows or [] if one.run_id == told.run_id]
    ordinal = pick(data, told.ordinals)
    tasks = {item.task_id for item in items(workflow) if item.ordinal == ordinal}
    kept = [item for item in items(workflow) if item.type != "taskCompleted" or item.task_id not in tasks]
    put(history, workflow, history=kept)
    return f"{told.run_id}:{ordinal}: told by region"


def reorder_what_was_told(history: History, data: st.DataObject) -> str:
    told = pick(data, [one for one in history.observations or [] if len(one.ordinals) > 1])
    history.observations = amend(history.observations, told, ordinals=list(reversed(told.ordinals)))
    return f"{told.run_id}:{told.ordinals[-1]}: told by region"


def tell_another_end(history: History, data: st.DataObject) -> str:
    told = pick(data, history.observations)
    history.observations = amend(history.observations, told, status="failed")
    return f"{told.run_id}: told by region {told.region} as failed"


def tell_of_a_run_that_is_gone(history: History, data: st.DataObject) -> str:
    told = pick(data, history.observations)
    history.observations = amend(history.observations, told, run_id="gone")
    return f"gone: told by region {told.region}"


def let_two_execute(history: History, data: st.DataObject) -> str:
    one = pick(data, [one for one in executions(history) if one.ended - one.began > 0.005])
    at = one.began + data.draw(st.floats(0.1, 0.9)) * (one.ended - one.began)
    who: dict[str, Any] = {"pid": STRANGER, "region": one.region, "epoch": one.epoch}
    assert history.attempts is not None
    history.attempts.append(attempt(one.run_id, one.ordinal, "started", at, **who))
    return f"{one.run_id}:{one.ordinal}: executed by"


def work_in_both_regions(history: History, data: st.DataObject) -> str:
    one = pick(data, [one for one in executions(history) if one.epoch == 2])
    assert history.attempts is not None
    history.attempts.append(attempt("run-0", 77, "started", one.began, region="a", epoch=2, pid=STRANGER))
    return "epoch 2: executed in regions a and b"


def be_active_twice(history: History, data: st.DataObject) -> str:
    one = pick(data, [one for one in history.roles or [] if one.region == "a" and one.epoch == 2])
    history.roles = amend(history.roles, one, agent="active")
    return "epoch 2: regions a and b both said"


def be_primary_twice(history: History, data: st.DataObject) -> str:
    one = pick(data, [one for one in history.roles or [] if one.region == "b" and one.timeline == 1])
    history.roles = amend(history.roles, one, database="primary")
    return "timeline 1: the databases of regions a and b"


def acknowledge_in_the_old_region(history: History, data: st.DataObject) -> str:
    at = FAULT_AT + 1 + data.draw(st.floats(0, 9))
    one = pick(data, history.accepted)
    late = {"run_id": "late", "invoked_at": at, "answered_at": at + 0.1, "region": "a"}
    history.operations.append(one.model_copy(update=late))
    return "late: acknowledged by region a"


def apply_in_an_epoch_that_is_over(history: History, data: st.DataObject) -> str:
    assert history.effects is not None
    one = pick(data, [one for one in applied(history) if one.epoch == 2])
    history.effects.append(one.model_copy(update={"seq": 900, "epoch": 1, "kind": "late"}))
    return f"{one.key}: late of epoch 1 applied when epoch 2 had begun"


def execute_what_is_done(history: History, data: st.DataObject) -> str:
    one = pick(data, executions(history))
    (workflow,) = [each for each in history.workflows or [] if each.run_id == one.run_id]
    late = completions(workflow)[one.ordinal] + data.draw(st.floats(0.01, 60))
    assert history.attempts is not None
    history.attempts.append(attempt(one.run_id, one.ordinal, "started", late, pid=STRANGER))
    return f"{one.run_id}:{one.ordinal}: executed by"


def replay_to_something_else(history: History, data: st.DataObject) -> str:
    one = pick(data, history.replays)
    history.replays = amend(history.replays, one, same=False, difference="event 7: another tool")
    return f"{one.run_id}: event 7: another tool"


def fire(history: History, data: st.DataObject, late: float) -> str:
    one = any_run(history, data)
    alarm = pick(data, alarms(one))
    moved = [
        item.model_copy(update={"at": alarm.due + late}) if item.type == "timerFired" else item for item in items(one)
    ]
    put(history, one, history=moved)
    return f"{one.run_id}:timer {alarm.task_id}: fired"


def fire_early(history: History, data: st.DataObject) -> str:
    return fire(history, data, -data.draw(st.floats(1.1, 50)))


def fire_late(history: History, data: st.DataObject) -> str:
    return fire(history, data, data.draw(st.floats(40, 500)))


def never_fire(history: History, data: st.DataObject) -> str:
    one = any_run(history, data)
    alarm = pick(data, alarms(one))
    kept = items(one)[: next(n for n, item in enumerate(items(one)) if item.type == "timerFired")]
    put(history, one, history=kept, status="running")
    return f"{one.run_id}:timer {alarm.task_id}: due"


def lose_a_signal(history: History, data: st.DataObject) -> str:
    one = any_run(history, data)
    put(history, one, history=[item for item in items(one) if item.type != "eventRaised"])
    return f"{one.run_id}: {CALL}: acknowledged"


def give_a_signal_again(history: History, data: st.DataObject) -> str:
    one = any_run(history, data)
    (raised,) = [item for item in items(one) if item.type == "eventRaised"]
    again = [raised.model_copy(update={"at": raised.at + later}) for later in (0.001, 0.002)]
    put(history, one, history=[*items(one), *again])
    return f"{one.run_id}: {CALL}: given to the run 3 times"


def obey_twice(history: History, data: st.DataObject) -> str:
    one = any_run(history, data)
    asked = next(item for item in items(one) if item.call_id == CALL)
    put(history, one, history=[*items(one), asked.model_copy(update={"ordinal": 99})])
    return f"{one.run_id}: {CALL}: approved, and executed by {one.run_id}:{asked.ordinal}, {one.run_id}:99"


def disobey_a_denial(history: History, data: st.DataObject) -> str:
    one = any_run(history, data)
    put(history, one, history=[item.model_copy(update={"ok": False}) if item.name else item for item in items(one)])
    return f"{one.run_id}: {CALL}: denied, and executed by"


def stand_still(history: History, data: st.DataObject) -> str:
    one = any_run(history, data)
    pause = data.draw(st.floats(40, 500))
    last = items(one)[-1]
    put(history, one, history=[*items(one)[:-1], last.model_copy(update={"at": last.at + pause})])
    return f"{one.run_id}:{len(completions(one))}: no progress for"


def forge_an_event(history: History, data: st.DataObject) -> str:
    one = pick(data, history.proofs)
    history.proofs = amend(history.proofs, one, proven=False, reason="event 3: tampered with")
    return f"{one.run_id}: not proven: event 3"


def break_in(history: History, data: st.DataObject) -> str:
    one = pick(data, history.intrusions)
    history.intrusions = amend(history.intrusions, one, refused=False, observed="200")
    return "x at y: 200, where 401 was expected"


def ask_the_model_again_and_again(history: History, data: st.DataObject) -> str:
    one = pick(data, [one for one in executions(history) if one.kind == "model"])
    assert history.attempts is not None
    again = {"kind": "model", "attempt": one.attempt, "region": one.region, "epoch": one.epoch, "pid": one.pid}
    history.attempts += [attempt(one.run_id, one.ordinal, "started", one.began - 50 + n, **again) for n in range(2)]
    return f"{one.run_id}:{one.ordinal}: "


MUTATIONS: list[tuple[Mutation, str]] = [
    (lose_a_run, "K1"),
    (leave_a_run_open, "K1"),
    (accept_another_input, "K1"),
    (refuse_what_was_accepted, "K1"),
    (apply_under_another_key, "K2"),
    (lose_an_effect, "K2"),
    (apply_what_nobody_asked_for, "K2"),
    (lose_a_run, "K3"),
    (lose_what_was_told, "K3"),
    (reorder_what_was_told, "K3"),
    (tell_another_end, "K3"),
    (tell_of_a_run_that_is_gone, "K3"),
    (let_two_execute, "K4"),
    (work_in_both_regions, "K4"),
    (be_active_twice, "K4"),
    (be_primary_twice, "K4"),
    (acknowledge_in_the_old_region, "K4"),
    (apply_in_an_epoch_that_is_over, "K4"),
    (execute_what_is_done, "K5"),
    (replay_to_something_else, "K6"),
    (fire_early, "K7"),
    (fire_late, "K7"),
    (never_fire, "K7"),
    (lose_a_signal, "K8"),
    (give_a_signal_again, "K8"),
    (obey_twice, "K8"),
    (disobey_a_denial, "K8"),
    (stand_still, "K9"),
    (forge_an_event, "K11"),
    (break_in, "K11"),
    (ask_the_model_again_and_again, "K13"),
]


@settings(max_examples=60, deadline=None)
@given(correct())
def test_a_correct_deployment_is_called_valid_by_every_checker(history: History) -> None:
    for name in ALWAYS_DECIDABLE:
        found = CHECKS[name](history)
        assert found is not None
        assert (name, found.answer, found.witness) == (name, "valid", [])


@pytest.mark.parametrize(
    ("mutation", "checker"), [pytest.param(*one, id=f"{one[0].__name__}-{one[1]}") for one in MUTATIONS]
)
def test_one_wrong_thing_is_found_by_its_checker_and_named(mutation: Mutation, checker: str) -> None:
    @settings(max_examples=25, deadline=None)
    @given(history=correct(), data=st.data())
    def found_everywhere(history: History, data: st.DataObject) -> None:
        named = mutation(history, data)
        found = CHECKS[checker](history)
        assert found is not None
        assert found.answer == "invalid"
        assert any(line.startswith(named) for line in found.witness), (named, found.witness)

    found_everywhere()


def test_every_checker_has_something_to_find() -> None:
    assert {checker for _, checker in MUTATIONS} == set(ALWAYS_DECIDABLE)
