"""A site of tiny processes under the real supervisor."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.local.errors import PartError
from infra.local.site import Process, Site, kill_site, members
from infra.local.supervisor import ask, start_site, status, stop_site
from infra.toolchain import ensure_account

pytestmark = pytest.mark.component

SLEEP = (sys.executable, "-S", "-c", "import time; print('here', flush=True); time.sleep(600)")
STUBBORN = (
    sys.executable,
    "-S",
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)",
)


def eventually(what: str, look: Callable[[], object], seconds: float = 10.0) -> object:
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"{what}; last seen: {seen}"
        time.sleep(0.05)
    return seen


@pytest.fixture
def site(directory: Path) -> Iterator[Site]:
    deep = directory / ("a-long-name-" * 8) / "site"
    deep.parent.mkdir(parents=True, exist_ok=True)
    made = Site(
        "site",
        deep,
        directory,
        ensure_account(),
        (Process("always", SLEEP), Process("on-demand", SLEEP, {"SECRET": "s3cret"}, autostart=False)),
    )
    yield made
    kill_site(made.name, made.directory, made.deployment)


def pid(site: Site, name: str) -> int | None:
    one = (status(site.socket) or {}).get(name)
    return one.pid if one and one.running else None


def test_a_site_runs_what_starts_by_itself_and_leaves_the_rest_to_be_asked_for(site: Site) -> None:
    start_site(site)
    eventually("always runs", lambda: pid(site, "always"))
    assert pid(site, "on-demand") is None
    ask(site.socket, "POST", "/process/start/on-demand")
    eventually("on-demand runs", lambda: pid(site, "on-demand"))
    ask(site.socket, "PATCH", "/process/stop/on-demand")
    eventually("on-demand stopped", lambda: pid(site, "on-demand") is None)
    # Stopped on request is not crashed: it must not come back by itself.
    time.sleep(1.5)
    assert pid(site, "on-demand") is None
    ask(site.socket, "POST", "/process/start/on-demand")
    first = eventually("on-demand runs again", lambda: pid(site, "on-demand"))
    ask(site.socket, "POST", "/process/restart/on-demand")
    eventually("on-demand is another process", lambda: pid(site, "on-demand") not in (None, first))


def test_a_process_that_dies_is_started_again(site: Site) -> None:
    start_site(site)
    first = eventually("always runs", lambda: pid(site, "always"))
    assert isinstance(first, int)
    os.kill(first, signal.SIGKILL)
    eventually("always runs again", lambda: pid(site, "always") not in (None, first))


def test_starting_what_runs_changes_nothing(site: Site) -> None:
    assert start_site(site)
    first = eventually("always runs", lambda: pid(site, "always"))
    assert not start_site(site)
    assert pid(site, "always") == first


def test_after_everything_was_killed_a_site_starts_again(site: Site) -> None:
    start_site(site)
    eventually("always runs", lambda: pid(site, "always"))
    killed = kill_site(site.name, site.directory, site.deployment)
    assert len(killed) >= 2
    assert members(site.name, site.directory, site.deployment) == []
    assert site.socket.exists(), "the stale socket is what this test is about"
    start_site(site)
    eventually("always runs again", lambda: pid(site, "always"))


def test_a_supervisor_that_was_killed_alone_leaves_no_second_copy_of_a_process(site: Site) -> None:
    start_site(site)
    orphan = eventually("always runs", lambda: pid(site, "always"))
    for one in members(site.name, site.directory, site.deployment):
        if one.pid != orphan:
            one.kill()
    eventually("the supervisor is gone", lambda: status(site.socket) is None)
    start_site(site)
    eventually("always runs again", lambda: pid(site, "always") not in (None, orphan))
    alive = [one.pid for one in members(site.name, site.directory, site.deployment)]
    assert orphan not in alive
    assert len(alive) == 2


def test_stopping_ends_also_what_ignores_the_signal(site: Site) -> None:
    stubborn = Process("stubborn", STUBBORN, stop_seconds=1)
    deaf = Site("deaf", site.directory, site.deployment, site.account, (stubborn,))
    start_site(deaf)
    eventually("stubborn runs", lambda: pid(deaf, "stubborn"))
    stop_site(deaf)
    assert members(deaf.name, deaf.directory, deaf.deployment) == []
    stop_site(deaf)


def test_no_secret_is_on_a_command_line_or_readable_by_others(site: Site) -> None:
    start_site(site)
    ask(site.socket, "POST", "/process/start/on-demand")
    eventually("on-demand runs", lambda: pid(site, "on-demand"))
    for one in members(site.name, site.directory, site.deployment):
        assert "s3cret" not in " ".join(one.cmdline())
        assert one.uids().real == site.account.uid
    assert (site.directory / "process-compose.yaml").stat().st_mode & 0o077 == 0


def test_a_port_that_somebody_else_has_is_named_with_its_holder(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        process = Process("wants", SLEEP, ports={"door": port})
        blocked = Site("blocked", site.directory, site.deployment, site.account, (process,))
        with pytest.raises(PartError, match=rf"port {port}, which is blocked door's, .*{os.getpid()}"):
            start_site(blocked)
    assert members(blocked.name, blocked.directory, blocked.deployment) == []
