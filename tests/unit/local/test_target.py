"""The boundary to Pulumi, where no process is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from infra.local import target
from infra.local.errors import PartError
from infra.local.layout import Layout
from infra.local.part import PARTS
from infra.local.supervisor import await_true
from infra.topology import Settings

pytestmark = pytest.mark.unit


def test_the_parts_are_those_that_pulumi_knows() -> None:
    assert target.PARTS == PARTS


@pytest.mark.parametrize("call", [lambda p, s: target.converge(p, s, print), target.observe, target.remove])
def test_an_unknown_part_is_refused_by_name(call: Callable[[str, Settings], Any], settings: Settings) -> None:
    with pytest.raises(PartError, match="'region-c' is none of root, wan"):
        call("region-c", settings)


def test_nothing_exists_before_the_root(settings: Settings) -> None:
    assert not any(target.observe(part, settings).exists for part in target.PARTS)
    with pytest.raises(PartError, match="holdfast up"):
        target.converge("wan", settings, lambda _: None)


def test_the_root_is_made_once(layout: Layout, settings: Settings) -> None:
    before = {path: path.read_bytes() for path in layout.root.rglob("*") if path.is_file()}
    target.converge("root", settings, lambda _: None)
    assert before == {path: path.read_bytes() for path in layout.root.rglob("*") if path.is_file()}
    assert target.observe("root", settings) == target.Observation(True, True, "")


def test_a_lost_secret_shows_and_is_made_anew(layout: Layout, settings: Settings) -> None:
    layout.secret("api-token").unlink()
    seen = target.observe("root", settings)
    assert (seen.healthy, seen.detail) == (False, "missing: api-token")
    target.converge("root", settings, lambda _: None)
    assert target.observe("root", settings).healthy


def test_removing_leaves_nothing_and_may_be_repeated(layout: Layout, settings: Settings) -> None:
    for _ in range(2):
        for part in reversed(target.PARTS):
            target.remove(part, settings)
        assert not layout.root.exists()


def test_a_wait_that_ends_in_vain_says_what_was_awaited_and_what_was_seen() -> None:
    with pytest.raises(PartError, match=r"the moon did not come about in 0 s; last seen: clouds\nlook up"):
        await_true("the moon", lambda: (None, "clouds"), 0.0, lambda: "look up")
