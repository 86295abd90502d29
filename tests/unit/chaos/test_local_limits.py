"""A process is starved of files, memory or time, and sated again, whoever it belongs to."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from chaos.faults import NotInjectedError, NotLiftedError
from chaos.faults.local import limits
from chaos.faults.local.limits import Limits
from chaos.faults.target import Resource

pytestmark = pytest.mark.unit
MANIFEST: Any = None


@pytest.fixture
def pid() -> Iterator[int]:
    somebody = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    with subprocess.Popen(["sleep", "60"], **somebody) as process:  # type: ignore[call-overload]
        yield process.pid
        process.kill()


def soft(pid: int, limit: str) -> str:
    with open(f"/proc/{pid}/limits") as told:
        return next(line.split()[3] for line in told if line.startswith(limit))


@pytest.mark.parametrize(
    ("of", "told", "limit"), [("files", "open-files", "Max open files"), ("memory", "bytes", "Max address space")]
)
def test_a_starved_process_gets_nothing_more_and_a_sated_one_as_much_as_before(
    pid: int, of: Resource, told: str, limit: str
) -> None:
    struck = Limits(MANIFEST).starve({"api": pid}, of)
    assert struck.proven
    assert soft(pid, limit) == str(struck.evidence[told])
    Limits(MANIFEST).sate({"api": pid, "gone": 2**22 + 1})
    after = soft(pid, limit)
    assert after != str(struck.evidence[told])


def test_nobody_and_who_has_gone_cannot_be_starved() -> None:
    for running in ({}, {"gone": 2**22 + 1}):
        with pytest.raises(NotInjectedError):
            Limits(MANIFEST).starve(running, "files")
        with pytest.raises(NotInjectedError):
            Limits(MANIFEST).throttle(running, 0.5, 0.1)


@pytest.mark.parametrize(("seconds_of_processor", "proven"), [(0.04, True), (0.5, False)])
def test_a_throttled_process_stands_still_most_of_the_time_and_goes_on_afterwards(
    pid: int, monkeypatch: pytest.MonkeyPatch, seconds_of_processor: float, proven: bool
) -> None:
    lasted: list[float] = []
    used = [0.0, seconds_of_processor]
    sleep = time.sleep

    def look(seconds: float) -> None:
        lasted.append(round(seconds, 3))
        stands = len(lasted) % 2 == 1
        deadline = time.monotonic() + 5
        while (psutil.Process(pid).status() == psutil.STATUS_STOPPED) is not stands:
            assert time.monotonic() < deadline
        sleep(seconds)

    monkeypatch.setattr(limits, "_cpu", lambda _: used.pop(0))
    monkeypatch.setattr(limits.time, "sleep", look)
    struck = Limits(MANIFEST).throttle({"worker-1": pid}, 0.1, 0.3)
    assert struck.proven is proven
    assert lasted[:2] == [0.18, 0.02]
    assert psutil.Process(pid).status() != psutil.STATUS_STOPPED


def test_a_limit_that_can_not_be_taken_back_is_told(pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    Limits(MANIFEST).starve({"api": pid}, "files")

    def refuse(*_: object) -> None:
        raise OSError("prlimit: not permitted")

    monkeypatch.setattr(limits, "_set", refuse)
    with pytest.raises(NotLiftedError, match="is limited still: prlimit: not permitted"):
        Limits(MANIFEST).sate({"api": pid})


def test_a_process_has_used_a_processor_by_its_own_time_and_the_kernels() -> None:
    me = psutil.Process()
    assert limits._cpu(me) >= me.cpu_times().user > 0
