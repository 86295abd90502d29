"""Workers count steps as they end, once each, with the tokens that models were asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from pydantic_ai_dapr import Attempt
from service.meters import StepMeters

pytestmark = pytest.mark.unit

STARTED = Attempt("started", "r", "r", 1, "r:1", "tool", "issue_refund", 1, at=10.0)
ENDED = replace(STARTED, phase="ended", at=10.4, outcome="ok")


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def meters(registry: CollectorRegistry) -> StepMeters:
    return StepMeters(registry)


@pytest.fixture
def value(registry: CollectorRegistry) -> Callable[..., float | None]:
    return lambda sample, /, **labels: registry.get_sample_value(sample, labels)


def test_a_step_is_under_way_until_it_ends_and_is_counted_then(
    meters: StepMeters, value: Callable[..., float | None]
) -> None:
    step = {"kind": "tool", "name": "issue_refund"}
    meters(STARTED)
    assert value("holdfast_steps_running") == 1
    assert value("holdfast_steps_total", **step, outcome="ok") is None
    meters(ENDED)
    assert value("holdfast_steps_running") == 0
    assert value("holdfast_steps_total", **step, outcome="ok") == 1
    assert value("holdfast_step_seconds_sum", **step) == pytest.approx(0.4)
    assert value("holdfast_steps_again_total", **step) is None


def test_a_further_attempt_and_a_second_delivery_are_counted_for_themselves(
    meters: StepMeters, value: Callable[..., float | None]
) -> None:
    meters(replace(STARTED, attempt=2))
    meters(replace(STARTED, attempt=2, joined=True))
    assert value("holdfast_steps_again_total", kind="tool", name="issue_refund") == 1
    assert value("holdfast_deliveries_joined_total") == 1
    assert value("holdfast_steps_running") == 1


def test_tokens_are_counted_by_model_and_direction(meters: StepMeters, value: Callable[..., float | None]) -> None:
    for tokens in ((120, 8), (30, 2)):
        meters(replace(ENDED, kind="model", name="model", model="desk-1", tokens=tokens))
    meters(replace(ENDED, kind="model", name="model", tokens=(1, 0)))
    assert value("holdfast_tokens_total", model="desk-1", direction="input") == 150
    assert value("holdfast_tokens_total", model="desk-1", direction="output") == 10
    assert value("holdfast_tokens_total", model="unknown", direction="input") == 1


def test_names_that_anybody_may_choose_are_no_labels(meters: StepMeters, value: Callable[..., float | None]) -> None:
    meters(replace(ENDED, kind="event", name="approval-of-r-1"))
    assert value("holdfast_steps_total", kind="event", name="", outcome="ok") == 1


def test_the_text_tells_which_epoch_is_served(meters: StepMeters) -> None:
    assert b"holdfast_worker_epoch 0.0" in meters.text()
    meters.epoch.set(7)
    assert b"holdfast_worker_epoch 7.0" in meters.text()
