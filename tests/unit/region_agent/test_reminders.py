"""A store of reminders that is not the one that was marked has been lost, and each has a life of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from region_agent.reminders import Reminders

pytestmark = pytest.mark.unit


@pytest.fixture
def reminders(tmp_path: Path) -> Reminders:
    return Reminders(tmp_path / "scheduler", tmp_path / "swept")


def test_a_store_that_nobody_marked_is_as_good_as_lost(reminders: Reminders) -> None:
    assert reminders.are_lost()
    reminders.data_dir.mkdir()
    assert reminders.are_lost()


def test_a_store_that_was_marked_keeps_its_life(reminders: Reminders) -> None:
    first = reminders.begin(4)
    assert not reminders.are_lost()
    assert reminders.begin(4) == first
    assert first.startswith("epoch 4 since ")


def test_a_store_that_was_wiped_begins_another_life(reminders: Reminders) -> None:
    first = reminders.begin(4)
    reminders.note_swept(first)
    assert reminders.are_swept(first)
    shutil.rmtree(reminders.data_dir)
    assert reminders.are_lost()
    second = reminders.begin(4)
    assert second != first
    assert not reminders.are_swept(second)


@pytest.mark.parametrize("text", [b"", b"epoch 3", b"\xff"], ids=["empty", "another", "damaged"])
def test_runs_were_not_woken_where_the_note_does_not_say_so(reminders: Reminders, text: bytes) -> None:
    life = reminders.begin(4)
    assert not reminders.are_swept(life)
    reminders.swept_file.write_bytes(text)
    assert not reminders.are_swept(life)
