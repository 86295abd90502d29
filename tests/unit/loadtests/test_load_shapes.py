"""Each shape's customers over its time, and how many customers make a rate."""

from __future__ import annotations

import pytest

from loadtests.traffic.shapes import SHAPES, Moment, customers_for

pytestmark = pytest.mark.unit


def course(shape: str, *, moved_at: float | None = None) -> list[int]:
    """The customers at every fifth second of a minute, of at most 20."""
    return [SHAPES[shape].customers(Moment(20, 60, at, moved_at)) for at in range(0, 60, 5)]


def test_a_steady_load_has_all_its_customers_all_the_time() -> None:
    assert course("steady") == [20] * 12


def test_a_ramp_climbs_in_steps_to_all_its_customers() -> None:
    assert course("ramp") == [2, 2, 4, 6, 8, 10, 12, 12, 14, 16, 18, 20]
    assert SHAPES["ramp"].customers(Moment(20, 60, 61)) == 20


def test_a_burst_comes_at_half_time_where_no_region_was_lost() -> None:
    assert course("burst") == [20] * 6 + [100, 100] + [20] * 4


def test_a_burst_comes_as_soon_as_another_region_is_active() -> None:
    assert course("burst", moved_at=10) == [20, 20, 100, 100] + [20] * 8
    assert course("burst", moved_at=50) == course("burst")


def test_a_herd_waits_until_half_time_and_is_let_go_at_once() -> None:
    assert course("herd") == [20] * 6 + [0] * 6
    assert SHAPES["herd"].held_every == 1
    assert SHAPES["herd"].released_at(60) == 30
    assert SHAPES["steady"].released_at(60) == 0


def test_a_rate_is_so_many_customers_of_one_run_in_ten_seconds() -> None:
    assert [customers_for(rate) for rate in (0.1, 1, 2.3, 40)] == [1, 10, 23, 400]


@pytest.mark.parametrize("rate", [0, 0.04, 0.25, -1, float("nan"), float("inf")])
def test_a_rate_that_no_number_of_customers_makes_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=r"name a multiple of 0\.1"):
        customers_for(rate)
