"""The real Pulumi engine on parts that are files: a change may fail, be killed or be repeated."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from infra.automation import Busy, Deployment, DeploymentError
from infra.config import ConfigError
from infra.engine.guard import exclusively
from infra.engine.progress import Progress
from infra.engine.workspace import MARK, Workspace
from infra.local.part import PARTS
from tests.support import parts
from tests.support.parts import FileTarget

pytestmark = pytest.mark.component

SAME = dict.fromkeys(PARTS, "same")

CHILD = """
import sys
from infra.automation import Deployment
from tests.support.parts import FileTarget
getattr(Deployment(state_dir=sys.argv[1], target=FileTarget()), sys.argv[2])()
"""


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "a state"
    path.mkdir()
    yield path
    assert not engines(path)


def deployment(state: Path, **overrides: str) -> Deployment:
    return Deployment(overrides=overrides, state_dir=state, target=FileTarget())


def order(state: Path, name: str, content: str = "") -> Path:
    path = parts.orders(state / "local") / name
    path.write_text(content)
    return path


def engines(state: Path) -> list[psutil.Process]:
    """Pulumi's processes that work on the deployment."""
    project = str(Workspace(state, "local").project)
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == project and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def eventually(what: str, holds: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come about in {seconds} s"
        time.sleep(0.02)


def child(state: Path, operation: str = "up") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(state), operation],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def test_up_twice_changes_nothing_and_destroy_leaves_nothing(state: Path) -> None:
    first = deployment(state).up()
    assert first.changes == dict.fromkeys(PARTS, "create")
    assert first.outputs["api_a"] == "https://127.0.0.1/region-a"
    assert first.outputs["manifest"] == str(state / "local" / "deployment.json")

    second = deployment(state).up()
    assert second.changes == SAME
    assert not second.changed
    assert deployment(state).outputs() == first.outputs

    gone = deployment(state).destroy()
    assert gone.changes == dict.fromkeys(PARTS, "delete")
    assert not (state / "local").exists()
    assert not deployment(state).exists
    assert deployment(state).destroy().changes == {}
    assert deployment(state).refresh().changes == {}
    assert deployment(state).outputs() == {}


def test_the_foundation_is_up_before_the_regions_and_goes_after_them(state: Path) -> None:
    deployment(state).up()
    deployment(state).destroy()
    asked = parts.record(state / "local")

    up, down = asked[:6], asked[6:]
    assert up[0] == "converge root"
    assert up.index("converge wan") < up.index("converge witness")
    assert {"converge region-a", "converge region-b"} == set(up[4:])
    assert {"remove region-a", "remove region-b"} == set(down[:2])


def test_refresh_sees_a_dead_part_and_up_repairs_it_alone(state: Path) -> None:
    deployment(state).up()
    (state / "local" / "region-a" / "alive").unlink()

    assert deployment(state).refresh().unhealthy == {"region-a": "region-a is dead"}
    assert deployment(state).preview().changes == {**SAME, "region-a": "update"}
    assert not (state / "local" / "region-a" / "alive").exists()

    events: list[Progress] = []
    repaired = deployment(state).up(events.append)
    assert repaired.changes == {**SAME, "region-a": "update"}
    assert [event.message for event in events if event.part == "region-a" and event.status == "says"] == [
        "repairing: region-a is dead",
        "starting region-a",
    ]
    assert deployment(state).up().changes == SAME


def test_up_alone_sees_what_died_since_the_last_time(state: Path) -> None:
    deployment(state).up()
    (state / "local" / "wan" / "alive").unlink()
    (state / "local" / "payments" / "alive").unlink()

    assert deployment(state).up().changes == {**SAME, "wan": "update", "payments": "update"}


def test_a_part_whose_files_are_gone_is_made_anew(state: Path) -> None:
    deployment(state).up()
    parts.remove("witness", deployment(state).configuration().settings)

    assert deployment(state).refresh().unhealthy == {"witness": "gone"}
    assert deployment(state).up().changes == {**SAME, "witness": "create"}


def test_a_changed_setting_changes_the_regions_alone(state: Path) -> None:
    deployment(state).up()
    changed = deployment(state, workers="3").up()

    assert changed.changes == {**SAME, "region-a": "update", "region-b": "update"}
    assert '"workers": 3' in (state / "local" / "region-b" / "settings.json").read_text()


def test_a_failed_up_names_the_part_its_cause_and_what_to_do(state: Path) -> None:
    order(state, "fail-region-b")
    events: list[Progress] = []
    with pytest.raises(DeploymentError) as failed:
        deployment(state).up(events.append)

    assert failed.value.part == "region-b"
    assert failed.value.cause.startswith("region-b: postgres did not become ready within 1 s; log: ")
    assert "repeat `holdfast up`" in str(failed.value)
    assert "Traceback" not in str(failed.value)
    assert ("region-b", "failed") in {(event.part, event.status) for event in events}


def test_a_failed_up_may_be_repeated(state: Path) -> None:
    failing = order(state, "fail-region-b")
    with pytest.raises(DeploymentError):
        deployment(state).up()
    failing.unlink()

    assert deployment(state).up().changes == {**SAME, "region-b": "create"}


def test_a_failed_up_may_be_destroyed_with_what_it_left(state: Path) -> None:
    order(state, "fail-region-b")
    with pytest.raises(DeploymentError):
        deployment(state).up()
    assert (state / "local" / "region-b").exists()

    deployment(state).destroy()
    assert not (state / "local").exists()


def test_a_failed_repair_is_tried_again(state: Path) -> None:
    deployment(state).up()
    (state / "local" / "region-a" / "alive").unlink()
    failing = order(state, "fail-region-a")
    with pytest.raises(DeploymentError):
        deployment(state).up()
    failing.unlink()

    assert deployment(state).up().changes == {**SAME, "region-a": "update"}


def test_a_wrong_configuration_starts_nothing_at_all(state: Path) -> None:
    with pytest.raises(ConfigError, match="holdfast:workrs"):
        deployment(state, workrs="3").up()
    with pytest.raises(ConfigError, match="found 'nowhere'; allowed: cloud or kind or local"):
        Deployment("nowhere", state_dir=state).up()

    assert list(state.iterdir()) == []


def test_two_deployments_live_side_by_side(tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    deployment(first).up()
    deployment(second).up()
    deployment(first).destroy()

    assert (second / "local" / "region-a" / "alive").exists()
    assert deployment(second).up().changes == SAME


def test_only_one_change_at_a_time(state: Path) -> None:
    with (
        exclusively(Workspace(state, "local")),
        pytest.raises(Busy, match=f"process {os.getpid()} is changing this deployment"),
    ):
        deployment(state).up()

    assert deployment(state).up().changed


def test_the_state_holds_neither_values_of_variables_nor_a_readable_passphrase(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "s3cret-value")
    deployment(state, environment="API_KEY").up()

    assert "s3cret-value" in (state / "local" / "region-a" / "settings.json").read_text()
    for path in (state / "pulumi").rglob("*"):
        assert not path.is_file() or b"s3cret-value" not in path.read_bytes(), path
    passphrase = state / "pulumi" / "passphrase"
    assert stat.S_IMODE(passphrase.stat().st_mode) == 0o600
    kept = passphrase.read_text()
    deployment(state).up()
    assert passphrase.read_text() == kept


def test_a_users_own_pulumi_settings_are_left_out(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "another")
    monkeypatch.setenv("PULUMI_STACK", "production")
    monkeypatch.setenv("PULUMI_BACKEND_URL", "https://nowhere.invalid")

    assert deployment(state).up().changed
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE")
    assert deployment(state).up().changes == SAME


def test_what_a_killed_up_left_is_cleared_by_the_next(state: Path) -> None:
    slow = order(state, "slow-region-b", "60")
    killed = child(state)
    eventually("region b's start", lambda: "converge region-b" in parts.record(state / "local"))
    killed.kill()
    killed.wait()
    slow.unlink()

    said: list[str] = []
    repaired = deployment(state).up(lambda event: said.append(event.message))
    assert repaired.changes["region-b"] == "create"
    assert "clearing what an interrupted change left pending" in said


def test_what_a_killed_engine_left_is_cleared_by_the_next(state: Path) -> None:
    deployment(state).up()
    (state / "local" / "region-b" / "alive").unlink()
    slow = order(state, "slow-region-b", "60")
    running = child(state)
    eventually("region b's repair", lambda: parts.record(state / "local").count("converge region-b") == 2)
    (engine,) = [process for process in engines(state) if process.name() == "pulumi"]
    engine.kill()
    _, said = running.communicate(timeout=30)
    assert b"DeploymentError" in said
    assert not engines(state)
    slow.unlink()

    assert deployment(state).up().changes["region-b"] == "update"


def test_a_killed_up_may_be_destroyed(state: Path) -> None:
    order(state, "slow-region-b", "60")
    killed = child(state)
    eventually("region b's start", lambda: "converge region-b" in parts.record(state / "local"))
    killed.kill()
    killed.wait()

    deployment(state).destroy()
    assert not (state / "local").exists()


def test_an_interrupt_lets_the_part_in_progress_end_and_starts_no_other(state: Path) -> None:
    order(state, "slow-wan", "2")
    running = child(state)
    eventually("the links' start", lambda: "converge wan" in parts.record(state / "local"))
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    _, said = running.communicate(timeout=30)

    assert b"KeyboardInterrupt" in said
    assert (state / "local" / "wan" / "alive").exists()
    assert "converge witness" not in parts.record(state / "local")
    assert deployment(state).up().changes["wan"] == "same"


def test_a_deployment_that_pulumi_does_not_know_is_removed_too(state: Path) -> None:
    deployment(state).up()
    (state / "pulumi").rename(state.parent / "lost")

    assert deployment(state).destroy().changes == dict.fromkeys(PARTS, "delete")
    assert not (state / "local").exists()
