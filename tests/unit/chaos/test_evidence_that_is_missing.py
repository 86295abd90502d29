"""What a checker makes of evidence that is missing, of regions that could not be told, and of clocks that differ."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.checks import CHECKS, judge
from chaos.checks.acknowledged import losses
from chaos.checks.cost import spent_again
from chaos.checks.timers import alarms
from chaos.history import AgentEvent, Bounds, Fault, History, HistoryItem, Observation, Workflow
from chaos.recovery import recovery
from chaos.verdict import CheckResult
from tests.support.histories import (
    FAULT_AT,
    LOST_PID,
    RUNS,
    SIGNAL_RUN,
    TIMER_RUN,
    TOKENS,
    attempt,
    effect,
    region_loss,
    run_id,
)

pytestmark = pytest.mark.unit
WITHOUT_PROMISE = Bounds(minimum_in_flight=RUNS, minimum_in_doubt=1)


def answer(name: str, history: History) -> CheckResult:
    found = CHECKS[name](history)
    assert found is not None
    return found


def workflow(history: History, number: int) -> Workflow:
    assert history.workflows is not None
    return history.workflows[number]


def rewrite(whole: History, number: int, **changes: Any) -> None:
    assert whole.workflows is not None
    whole.workflows[number] = whole.workflows[number].model_copy(update=changes)


def promoted(region: str, at: float, epoch: int) -> AgentEvent:
    return AgentEvent.model_validate({"region": region, "at": at, "event": "promoted", "epoch": epoch})


def without(one: Workflow, *types: str) -> list[HistoryItem]:
    return [item for item in one.history or [] if item.type not in types]


def test_a_checker_without_evidence_that_nobody_promised_does_not_apply() -> None:
    history = region_loss()
    history.bounds = WITHOUT_PROMISE
    history.replays = history.proofs = history.signals = history.observations = history.roles = None
    history.claims = []
    rewrite(history, TIMER_RUN, history=without(workflow(history, TIMER_RUN), "timerCreated", "timerFired"))
    assert [one.check for one in judge(history)] == ["K1", "K2", "K3", "K4", "K5", "K9", "K10", "K12", "K13"]
    assert {one.answer for one in judge(history)} == {"valid"}


def test_evidence_that_is_there_is_judged_though_nobody_promised_it() -> None:
    history = region_loss()
    history.bounds = WITHOUT_PROMISE
    assert {one.check for one in judge(history)} == set(CHECKS)
    assert history.replays is not None
    history.replays[0] = history.replays[0].model_copy(update={"same": False})
    assert answer("K6", history).answer == "invalid"


@pytest.mark.parametrize(
    ("check", "promise", "told"),
    [
        ("K6", {"replays": 50}, "50 replays were promised, 7 were recorded"),
        ("K7", {"timers": 3}, "3 timers were promised, 1 were recorded"),
        ("K8", {"signals": 2}, "2 acknowledged signals were promised, 1 were recorded"),
        ("K11", {"proofs": 9}, "9 proofs were promised, 7 were recorded"),
        ("K11", {"intrusions": 1}, "1 intrusions were promised, 0 were recorded"),
    ],
)
def test_less_evidence_than_was_promised_is_unknown(check: str, promise: dict[str, int], told: str) -> None:
    history = region_loss()
    history.bounds = history.bounds.model_copy(update=promise)
    assert (answer(check, history).answer, answer(check, history).witness) == ("unknown", [told])


def test_what_could_not_be_replayed_or_verified_is_unknown() -> None:
    history = region_loss()
    assert history.replays is not None
    assert history.proofs is not None
    history.replays[2] = history.replays[2].model_copy(update={"same": None, "difference": "a payload is lost"})
    history.proofs[2] = history.proofs[2].model_copy(update={"proven": None, "reason": "not exported"})
    assert answer("K6", history).witness == [f"{run_id(2)}: not replayed: a payload is lost"]
    assert answer("K11", history).witness == [f"{run_id(2)}: its signatures could not be read: not exported"]


def test_a_client_that_saw_nothing_before_the_fault_proves_no_prefix() -> None:
    history = region_loss()
    history.observations = [one for one in history.observations or [] if one.at > FAULT_AT]
    assert answer("K3", history).witness == ["no client saw a completed operation before the fault"]


def test_a_region_that_was_not_sampled_on_both_sides_of_the_fault_is_unknown() -> None:
    history = region_loss()
    history.roles = [one for one in history.roles or [] if one.region == "a" or one.at > FAULT_AT]
    assert answer("K4", history).witness == ["region b: its role was not sampled before and after the fault"]
    history.roles = [one for one in history.roles if one.region == "a"]
    assert answer("K4", history).witness == ["the regions' roles were promised, and were not sampled"]
    history.faults = []
    assert answer("K4", history).answer == "invalid", "without the kill two workers were at it at once"


def test_the_history_of_a_run_that_cannot_be_read_is_unknown_to_all_that_need_it() -> None:
    history = region_loss()
    rewrite(history, SIGNAL_RUN, history=None)
    unread = f"{run_id(SIGNAL_RUN)}: its history could not be read"
    for check in ("K3", "K5", "K8", "K9"):
        assert (answer(check, history).answer, answer(check, history).witness) == ("unknown", [unread])


def test_what_was_lost_is_counted_in_events_seconds_and_tokens() -> None:
    history = region_loss()
    rewrite(history, 2, history=[item for item in workflow(history, 2).history or [] if item.task_id != 1])
    (loss,) = [one for one in losses(history) or [] if one.at < FAULT_AT]
    assert (loss.run_id, loss.ordinal, loss.tokens) == (run_id(2), 1, TOKENS)
    found = recovery(history)
    assert (found.rpo_events, found.rpo_seconds, found.rpo_tokens) == (1, 0.5, TOKENS)
    assert answer("K3", history).counts["lost-tokens"] == TOKENS


def test_a_timer_that_was_issued_again_is_one_alarm_and_its_first_answer_counts() -> None:
    (alarm,) = alarms(workflow(region_loss(), TIMER_RUN))
    assert (alarm.created < FAULT_AT, alarm.due, alarm.fired) == (True, FAULT_AT + 2, FAULT_AT + 4.6)


def test_a_timer_of_the_next_segment_is_another_one() -> None:
    def timer(kind: str, at: float, **members: Any) -> HistoryItem:
        return HistoryItem(sequence=0, type=kind, at=at, task_id=1, **members)

    segments = [
        timer("timerCreated", 1, due=2.0),
        timer("timerFired", 2.1),
        HistoryItem(sequence=0, type="executionStarted", at=3),
        timer("timerCreated", 4, due=5.0),
        timer("timerFired", 9),
        timer("timerFired", 10),
    ]
    found = alarms(Workflow(run_id="run", status="completed", history=segments))
    assert [(one.due, one.fired) for one in found] == [(2.0, 2.1), (5.0, 9)]


def test_a_limit_that_was_kept_needs_no_timer_to_fire() -> None:
    history = region_loss()
    rewrite(history, TIMER_RUN, history=without(workflow(history, TIMER_RUN), "timerFired"))
    assert answer("K7", history).answer == "valid"
    assert answer("K7", history).counts["never-fired"] == 1


def test_a_pause_that_a_fault_or_a_wait_explains_is_no_standstill() -> None:
    asked = [HistoryItem(sequence=0, type="taskScheduled", at=0, task_id=1, ordinal=1)]
    ends = [HistoryItem(sequence=9, type="executionCompleted", at=100)]

    def judged(*between: HistoryItem, **parts: Any) -> CheckResult:
        one = Workflow(run_id="run", status="completed", history=[*asked, *between, *ends])
        return answer("K9", History(experiment="x", workflows=[one], **parts))

    assert judged().witness == ["run:1: no progress for 100.0 s afterwards"]
    raised = HistoryItem(sequence=1, type="eventRaised", at=99, name="approval:call")
    assert judged(raised).answer == "valid"
    assert judged(raised.model_copy(update={"name": "recover"})).answer == "invalid"
    assert judged(HistoryItem(sequence=1, type="timerCreated", at=1, task_id=2, due=90.0)).answer == "valid"
    long = Fault(name="quorum-lost", target="w", at=10, until=80)
    assert judged(faults=[long]).answer == "valid"
    assert judged(faults=[long, long.model_copy(update={"at": 20})]).counts["longest-ms"] == 30_000
    assert judged(faults=[long.model_copy(update={"until": None})]).answer == "invalid"


def test_a_run_that_is_open_stands_still_until_the_record_was_made() -> None:
    history = region_loss()
    rewrite(history, 4, status="running", history=without(workflow(history, 4), "executionCompleted"))
    assert answer("K9", history).answer == "valid"
    history.recorded_at = FAULT_AT + 300
    assert answer("K9", history).witness[0].startswith(f"{run_id(4)}:5: no progress for 29")


def frozen(until: float | None = FAULT_AT + 8) -> History:
    """Region a is frozen, not lost: it ends what it had in hand when it wakes."""
    history = region_loss()
    assert history.attempts is not None
    history.faults = [
        Fault(name="region-frozen", target="region a", at=FAULT_AT, until=until, frozen=[LOST_PID], proven=True)
    ]
    for number in range(RUNS):
        history.attempts.append(attempt(run_id(number), 3, "ended", FAULT_AT + 9, pid=LOST_PID, region="a", epoch=1))
    return history


def test_what_a_frozen_region_ends_when_it_wakes_is_a_zombies() -> None:
    found = answer("K4", frozen())
    assert (found.answer, found.counts["zombie-executions"]) == ("valid", RUNS)
    assert answer("K5", frozen()).answer == "valid"


def test_a_zombie_may_begin_what_is_done_but_not_for_long() -> None:
    for late, expected in ((9, "valid"), (30, "invalid")):
        history = frozen()
        assert history.attempts is not None
        who: dict[str, Any] = {"pid": LOST_PID, "region": "a", "epoch": 1}
        history.attempts.append(attempt(run_id(2), 4, "started", FAULT_AT + late, **who))
        assert answer("K5", history).answer == expected


def test_a_region_that_could_be_told_is_no_zombie() -> None:
    history = frozen()
    history.faults = [Fault(name="switchover", target="region b", at=FAULT_AT, proven=True)]
    assert answer("K4", history).answer == "invalid"
    history.faults = [history.faults[0].model_copy(update={"cut_off": ["a"]})]
    assert answer("K4", history).answer == "valid"


def test_an_effect_of_a_zombie_that_is_applied_is_found_all_the_same() -> None:
    history = frozen()
    assert history.effects is not None
    history.effects.append(effect(run_id(2), "gifts", 3, FAULT_AT + 9, 900, epoch=1, region="a"))
    assert answer("K4", history).witness == [
        f"{run_id(2)}:3: gifts of epoch 1 applied when epoch 2 had begun (ledger 900)"
    ]


def test_a_region_that_still_says_it_is_active_in_an_epoch_that_is_over_is_counted() -> None:
    history = frozen()
    history.roles = [
        one.model_copy(update={"agent": "active", "epoch": 1}) if one.region == "a" and one.at > FAULT_AT else one
        for one in history.roles or []
    ]
    assert (answer("K4", history).answer, answer("K4", history).counts["stale-claims"]) == ("valid", 3)


def test_a_start_that_the_old_region_knew_already_it_may_confirm() -> None:
    history = frozen()
    again = {"invoked_at": FAULT_AT + 5, "answered_at": FAULT_AT + 5.1, "region": "a"}
    history.operations.append(history.operations[0].model_copy(update={**again, "detail": "200"}))
    assert answer("K4", history).answer == "valid"
    history.operations.append(history.operations[0].model_copy(update={**again, "detail": "202"}))
    assert answer("K4", history).witness == [
        f"{run_id(0)}: acknowledged by region a 1.100 s after region b had begun epoch 2"
    ]


def test_a_failback_makes_the_first_region_the_one_that_acknowledges() -> None:
    history = frozen()
    assert history.events is not None
    history.events.append(promoted("a", FAULT_AT + 12, 3))
    times = {"invoked_at": FAULT_AT + 11, "answered_at": FAULT_AT + 13, "region": "a", "detail": "202"}
    history.operations.append(history.operations[0].model_copy(update=times))
    assert answer("K4", history).answer == "valid"


def test_an_effect_before_its_execution_shows_that_clocks_differ() -> None:
    history = region_loss()
    history.effects = [
        one.model_copy(update={"at": one.at - 5}) if one.run_id == run_id(RUNS) else one
        for one in history.effects or []
    ]
    found = answer("K12", history)
    assert found.answer == "unknown"
    assert found.witness[0].startswith(f"{run_id(RUNS)}:3: the clocks disagree by 4.98")
    history.bounds = history.bounds.model_copy(update={"clock_seconds": 6.0})
    assert answer("K12", history).answer == "valid"


def test_an_operation_whose_asking_turn_was_lost_and_repeated_shows_nothing_of_clocks() -> None:
    history = region_loss()
    items = [
        item.model_copy(update={"at": FAULT_AT + 4.9}) if item.ordinal == 3 else item
        for item in workflow(history, 3).history or []
    ]
    rewrite(history, 3, history=items)
    assert answer("K12", history).answer == "valid"


def test_more_starts_may_be_promised_than_one_on_either_side() -> None:
    history = region_loss()
    history.bounds = history.bounds.model_copy(update={"minimum_before": 7, "minimum_after": 2})
    assert answer("K12", history).witness == [
        f"{RUNS} starts were accepted before the fault, at least 7 promised",
        "1 starts were accepted after the fault, at least 2 promised",
    ]


def test_a_request_that_an_error_asks_for_is_not_spent_again() -> None:
    history = region_loss()
    assert history.attempts is not None
    for number in (1, 2):
        again = attempt(run_id(4), 1, "started", FAULT_AT - 0.95, kind="model", attempt=number)
        history.attempts.append(again)
    assert spent_again(history) == {(run_id(4), 1): 1}
    counts = answer("K13", history).counts
    assert (counts["again"], counts["tokens-again"]) == (1, TOKENS)


@pytest.mark.parametrize(("strikes", "verdict"), [(1, "invalid"), (2, "valid")])
def test_each_strike_of_a_fault_explains_one_model_request_again(strikes: int, verdict: str) -> None:
    history = region_loss()
    history.faults = [history.faults[0].model_copy(update={"strikes": strikes})]
    assert history.attempts is not None
    again = [attempt(run_id(4), 1, "started", FAULT_AT - 0.95 + n / 100, kind="model", attempt=1) for n in range(2)]
    before = spent_again(history)[run_id(4), 1]
    history.attempts += again
    assert spent_again(history)[run_id(4), 1] - before == 2
    assert answer("K13", history).answer == verdict


def test_an_effect_in_doubt_that_is_there_is_recovered() -> None:
    counts = answer("K2", region_loss()).counts
    assert (counts["recovered"], counts["lost"], counts["unexpected"]) == (RUNS, 0, 0)
    assert counts["ok"] + counts["recovered"] == counts["applied"]


def test_a_tool_that_changes_the_world_and_left_no_trace_has_lost_its_effect() -> None:
    history = region_loss()
    items = [
        item.model_copy(update={"name": "add_note"}) if item.ordinal == 2 else item
        for item in workflow(history, 4).history or []
    ]
    rewrite(history, 4, history=items)
    assert answer("K2", history).witness == [f"{run_id(4)}:2: completed, and the ledger has no notes"]


def test_a_signal_nobody_heard_of_needs_no_trace_and_a_refused_one_leaves_none() -> None:
    for outcome, expected in (("unknown", "valid"), ("refused", "valid"), ("ok", "invalid")):
        history = region_loss()
        assert history.signals is not None
        history.bounds = history.bounds.model_copy(update={"signals": 0})
        history.signals = [history.signals[0].model_copy(update={"outcome": outcome})]
        rewrite(history, SIGNAL_RUN, history=without(workflow(history, SIGNAL_RUN), "eventRaised"))
        assert answer("K8", history).answer == expected


def test_a_decision_is_not_obeyed_yet_where_the_run_is_open() -> None:
    history = region_loss()
    one = workflow(history, SIGNAL_RUN)
    cut = next(number for number, item in enumerate(one.history or []) if item.type == "eventRaised")
    rewrite(history, SIGNAL_RUN, status="running", history=(one.history or [])[: cut + 1])
    assert answer("K8", history).answer == "valid"
    rewrite(history, SIGNAL_RUN, status="completed")
    assert answer("K8", history).witness == [f"{run_id(SIGNAL_RUN)}: call-4: approved, and executed by no operation"]


def test_one_event_that_the_engine_hands_over_again_is_no_second_signal() -> None:
    history = region_loss()
    items = workflow(history, SIGNAL_RUN).history or []
    (raised,) = [item for item in items if item.type == "eventRaised"]
    rewrite(history, SIGNAL_RUN, history=[*items, raised])
    found = answer("K8", history)
    assert (found.answer, found.counts["delivered-again"]) == ("valid", 1)
    rewrite(history, SIGNAL_RUN, history=[*items, raised.model_copy(update={"at": raised.at + 0.005})])
    found = answer("K8", history)
    assert (found.answer, found.counts["delivered-again"]) == ("invalid", 0)
    assert found.witness == [f"{run_id(SIGNAL_RUN)}: call-4: given to the run 2 times, sent 1 times"]


def test_an_outage_ends_with_work_in_the_next_epoch_or_with_its_fault() -> None:
    history = region_loss()
    fault = history.faults[0].model_copy(update={"until": FAULT_AT + 60})
    assert history.outage(fault) == 5.0, "that the region came back later excuses nothing"
    history.attempts = [one for one in history.attempts or [] if one.epoch == 1]
    assert history.outage(fault) == 60.0
    assert history.outage(history.faults[0]) == 0.0


def test_an_observation_of_a_run_that_nobody_could_look_at_is_missing() -> None:
    history = region_loss()
    history.observations = []
    assert answer("K3", history).witness == ["observations were promised, and no client looked at a run"]
    history.workflows = None
    assert losses(history) is None
    assert answer("K3", history).witness == ["the runs were not recorded"]
    assert Observation(run_id="x", at=0, region="a", status="running").ordinals == []
