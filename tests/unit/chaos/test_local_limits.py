"""A process is starved of files, and sated again, whoever it belongs to."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from chaos.faults import NotInjectedError
from chaos.faults.local.limits import Limits

pytestmark = pytest.mark.unit
MANIFEST: Any = None


@pytest.fixture
def pid() -> Iterator[int]:
    somebody = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    with subprocess.Popen(["sleep", "60"], **somebody) as process:  # type: ignore[call-overload]
        yield process.pid
        process.kill()


def soft(pid: int) -> int:
    with open(f"/proc/{pid}/limits") as told:
        return next(int(line.split()[3]) for line in told if line.startswith("Max open files"))


def test_a_starved_process_gets_no_file_more_and_a_sated_one_as_many_as_before(pid: int) -> None:
    struck = Limits(MANIFEST).starve({"api": pid})
    assert struck.proven
    assert soft(pid) == struck.evidence["open-files"]
    Limits(MANIFEST).sate({"api": pid, "gone": 2**22 + 1})
    assert soft(pid) > 100


def test_nobody_and_who_has_gone_cannot_be_starved() -> None:
    for running in ({}, {"gone": 2**22 + 1}):
        with pytest.raises(NotInjectedError):
            Limits(MANIFEST).starve(running)
