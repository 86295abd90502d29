"""A seed composes the same faults each time, and what experiments last is remembered for the next estimate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chaoslib.experiment import ensure_experiment_is_valid

from chaos import nemesis
from chaos.durations import FILE, Durations
from chaos.experiment import read
from chaos.faults import FAULTS

pytestmark = pytest.mark.unit


def test_the_same_seed_composes_the_same_faults_and_another_one_others() -> None:
    assert nemesis.schedule(7, 120) == nemesis.schedule(7, 120)
    assert nemesis.schedule(7, 120) != nemesis.schedule(8, 120)


def test_a_longer_schedule_begins_as_the_shorter_one() -> None:
    short, long = nemesis.schedule(7, 60), nemesis.schedule(7, 300)
    assert len(short) < len(long)
    assert long[: len(short)] == short


@pytest.mark.parametrize("seed", range(20))
def test_faults_are_lifted_before_the_next_and_in_time(seed: int) -> None:
    steps = nemesis.schedule(seed, 200)
    ends = [step.at + step.seconds for step in steps]
    assert all(end < later.at for end, later in zip(ends, steps[1:], strict=False))
    assert steps[0].at == 0
    assert ends[-1] <= 200


def test_every_choice_is_a_fault_and_a_place_that_there_is() -> None:
    for choice in nemesis.CHOICES:
        assert choice.fault in FAULTS
        assert set(choice.places) <= {"active", "standby", "a", "b", "witness"}
        assert 0 < choice.shortest <= choice.longest


def test_a_schedule_is_played_as_an_experiment_at_its_moments() -> None:
    played = nemesis.experiment(7, 60)
    ensure_experiment_is_valid(played.document)
    steps = nemesis.schedule(7, 60)
    injected = [step for step in played.document["method"] if step["provider"]["func"] == "inject"]
    assert [step["provider"]["arguments"]["fault"] for step in injected] == [step.fault for step in steps]
    at = 0.0
    for step, planned in zip(injected, steps, strict=True):
        at += step["pauses"]["before"]
        assert at == pytest.approx(planned.at)
        at += step["pauses"]["after"]
    functions = [step["provider"]["func"] for step in played.document["method"]]
    assert functions[:2] == ["begin_load", "runs_are_in_flight"]
    assert functions.count("lift") == len(steps)
    assert functions[-2:] == ["deployment_is_healthy", "every_run_has_ended"]
    assert played.document["rollbacks"]
    assert played.needs
    assert played.seconds > 60
    # The experiment that it is made from is as it was.
    assert read("region-loss").tags != ("nemesis",)


def test_an_experiment_lasts_what_it_says_until_it_was_seen(tmp_path: Path) -> None:
    one, other = read("region-loss"), read("switchover")
    durations = Durations(tmp_path)
    assert durations.of(one) == one.seconds
    for seconds in (10.0, 90.0, 20.0):
        durations.note(one.name, seconds)
    assert durations.of(one) == 20.0
    assert Durations(tmp_path).left([one, other, one]) == 40.0 + other.seconds


def test_only_the_last_durations_count(tmp_path: Path) -> None:
    durations = Durations(tmp_path)
    for seconds in range(20):
        durations.note("x", float(seconds))
    assert json.loads((tmp_path / FILE).read_text()) == {"x": [15.0, 16.0, 17.0, 18.0, 19.0]}


@pytest.mark.parametrize("text", ["", "[]", '{"region-loss": "long"}', '{"region-loss": [null]}', "nonsense"])
def test_a_damaged_memory_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert Durations(tmp_path).of(read("region-loss")) == read("region-loss").seconds
