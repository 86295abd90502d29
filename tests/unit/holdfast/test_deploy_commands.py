"""The commands on a deployment say what happened, what is wrong and what to do, and exit accordingly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result
from holdfast import deploy
from holdfast.cli import main
from holdfast.picture import draw
from holdfast.progress import shown
from rich.console import Console

import infra.automation
from infra.automation import DeploymentError, Outcome
from infra.diagnosis import problems
from infra.doors import Doors
from infra.engine.progress import Failure, Progress
from infra.local import supervisor
from infra.local.leftovers import Leftovers
from infra.local.supervisor import ProcessStatus
from infra.status import observe
from infra.toolchain import ToolMissing
from tests.support.deployments import ToldDoors, manifest

pytestmark = pytest.mark.unit

OUTPUTS = {"api_a": "https://127.0.0.1:1", "api_b": "https://127.0.0.1:2"}
CHANGED = Outcome({"root": "create", "wan": "update", "witness": "same"}, 12.3, OUTPUTS)


class ToldDeployment:
    """Does nothing, and answers as a test says."""

    answer: Outcome | Exception = CHANGED
    exists = True
    made: tuple[Any, ...] = ()

    def __init__(self, *about: Any) -> None:
        type(self).made = about
        self.directory = Path("/state/local")

    def up(self, on_progress: Callable[[Progress], None] | None = None) -> Outcome:
        if isinstance(self.answer, Exception):
            raise self.answer
        if on_progress is not None:
            on_progress(Progress("root", "create", "started"))
            on_progress(Progress("root", "create", "says", None, "certificates"))
            on_progress(Progress("root", "create", "done", 0.31))
        return self.answer

    preview = destroy = up


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> type[ToldDeployment]:
    fresh = type("Fresh", (ToldDeployment,), {})
    monkeypatch.setattr(infra.automation, "Deployment", fresh)
    return fresh


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[Leftovers]:
    """What `down` finds left, the first time and from then on."""
    found = [Leftovers({}, (), None)]
    monkeypatch.setattr("infra.local.leftovers.leftovers", lambda *_: found.pop(0) if len(found) > 1 else found[0])
    return found


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), prog_name="holdfast")


def test_up_says_what_it_did_and_what_comes_next(told: type[ToldDeployment]) -> None:
    result = run("up", "-c", "workers=3", "-c", "holdfast:lease.ttl=30", "--state", "/state")

    assert result.exit_code == 0
    assert told.made == ("local", {"workers": "3", "holdfast:lease.ttl": "30"}, Path("/state"))
    assert "root      starting\nroot      certificates\nroot      up after 0.3 s" in result.output
    assert "1 part created, 1 part updated in 12.3 s" in result.output
    assert "API of region a   https://127.0.0.1:1" in result.output
    assert "console           https://127.0.0.1:1/console" in result.output
    assert "/secrets/console-operator-token" in result.output
    assert "holdfast drill region-loss" in result.output


def test_up_that_changes_nothing_says_so(told: type[ToldDeployment]) -> None:
    told.answer = Outcome({"root": "same"}, 1.0, OUTPUTS)

    assert "nothing changed: all parts are up" in run("up").output


def test_a_preview_lists_what_would_happen_to_each_part(told: type[ToldDeployment]) -> None:
    output = run("up", "--preview").output

    assert output.splitlines() == [
        "root      would be created",
        "wan       would be updated",
        "witness   stays",
    ]


def test_scripts_get_one_object_on_standard_output(told: type[ToldDeployment]) -> None:
    answer = json.loads(run("up", "--json").stdout)

    assert answer["ok"] is True
    assert answer["changes"]["wan"] == "update"
    assert answer["outputs"] == OUTPUTS


def test_a_part_that_fails_is_exit_1_with_its_cause(told: type[ToldDeployment]) -> None:
    told.answer = DeploymentError("holdfast up", [Failure("region-a", "etcd died")], "repeat `holdfast up`")
    result = run("up", "--json")

    assert result.exit_code == 1
    assert "region-a: etcd died" in result.stderr
    assert json.loads(result.stdout) == {"ok": False, "error": result.stderr.removeprefix("error: ").strip()}


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (ToolMissing("etcd not found: run `make setup`"), "make setup"),
        (KeyboardInterrupt(), "may be repeated"),
    ],
)
def test_what_could_not_be_tried_is_exit_2(told: type[ToldDeployment], problem: Any, said: str) -> None:
    told.answer = problem
    if isinstance(problem, KeyboardInterrupt):
        told.up = lambda *_: (_ for _ in ()).throw(problem)  # type: ignore[method-assign]
    result = run("up")

    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize("override", ["workers", "=3"])
def test_an_override_that_is_none_is_bad_input(override: str) -> None:
    result = run("up", "-c", override)

    assert result.exit_code == 2
    assert "is not KEY=VALUE" in result.output


def test_a_wrong_setting_is_exit_2_and_names_the_key(tmp_path: Path) -> None:
    result = run("up", "--state", str(tmp_path), "-c", "lease.tll=30")

    assert result.exit_code == 2
    assert "did you mean holdfast:lease.ttl?" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stack", ["kind", "cloud"])
def test_a_target_that_takes_a_pulumi_of_ones_own_is_exit_2(tmp_path: Path, stack: str) -> None:
    addresses = [f"-ckubernetes.address_{where}={where}.example.org" for where in ("a", "b", "witness")]
    result = run("up", "--stack", stack, "--state", str(tmp_path), *addresses, "-ckubernetes.image=example.org/app:1")

    assert result.exit_code == 2
    assert f"`pulumi up --stack {stack}`" in result.stderr


def test_down_of_nothing_says_so_and_is_fine(told: type[ToldDeployment], left: list[Leftovers]) -> None:
    told.exists = False
    result = run("down")

    assert (result.exit_code, result.output) == (0, "nothing is deployed in /state/local\n")
    assert json.loads(run("down", "--json").stdout) == {"ok": True, "changes": {}}


def test_down_says_that_nothing_is_left(told: type[ToldDeployment], left: list[Leftovers]) -> None:
    told.answer = Outcome({"root": "delete"}, 2.0)
    result = run("down")

    assert result.exit_code == 0
    assert "gone in 2.0 s: no process, no port, no file is left" in result.output
    assert json.loads(run("down", "--json").stdout)["changes"] == {"root": "delete"}


def test_down_that_leaves_something_is_exit_1_and_names_it(told: type[ToldDeployment], left: list[Leftovers]) -> None:
    left[:] = [Leftovers({7: "etcd of witness"}, (20001,), Path("/state/local"))]
    result = run("down")

    assert result.exit_code == 1
    assert "process 7 (etcd of witness); port 20001 is open; files in /state/local" in result.stderr


@pytest.fixture
def doors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToldDoors:
    described = manifest(tmp_path / "local")
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "deployment.json").write_text(described.model_dump_json())
    told = ToldDoors(described)

    class Held:
        def __init__(self, *_: object) -> None: ...
        def __enter__(self) -> ToldDoors:
            return told

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr("infra.doors.Doors", Held)
    monkeypatch.setattr("infra.status.Doors", Held)
    running = ProcessStatus("api", 7, True, 2, 0, "Running")
    monkeypatch.setattr(supervisor, "status", lambda _: {"api": running})
    return told


def test_status_of_a_healthy_deployment_is_exit_0(doors: ToldDoors, tmp_path: Path) -> None:
    result = run("status", "--state", str(tmp_path))

    assert result.exit_code == 0
    for said in ("region a", "active", "standby", "synchronous", "2 open, none disturbed", "as it should be"):
        assert said in result.output


def test_status_names_what_is_wrong_and_the_next_command(doors: ToldDoors, tmp_path: Path) -> None:
    doors.members[1]["role"] = "replica"
    doors.toxics["a-b.postgres"] = [{"type": "timeout", "stream": "downstream", "attributes": {"timeout": 0}}]
    result = run("status", "--state", str(tmp_path))

    assert result.exit_code == 1
    assert "NOT synchronous (replica)" in result.output
    assert "next: " in result.output
    told = json.loads(run("status", "--state", str(tmp_path), "--json").stdout)
    assert told["ok"] is False
    assert {"what", "next"} == set(told["problems"][0])


def test_status_of_nothing_is_exit_2(tmp_path: Path) -> None:
    result = run("status", "--state", str(tmp_path))

    assert result.exit_code == 2
    assert "start with `holdfast up`" in result.stderr


def test_a_switchover_prints_its_phases(doors: ToldDoors, tmp_path: Path) -> None:
    result = run("switchover", "--state", str(tmp_path))

    assert result.exit_code == 0
    assert "s  region b is active" in result.output
    assert "region b is active, epoch 4" in result.output


def test_a_switchover_for_scripts_is_one_object(doors: ToldDoors, tmp_path: Path) -> None:
    answer = json.loads(run("switchover", "--state", str(tmp_path), "--json").stdout)

    assert (answer["from"], answer["to"], answer["epoch"]) == ("a", "b", 4)
    assert len(answer["phases"]) == 3


def test_a_switchover_that_is_refused_is_exit_1(doors: ToldDoors, tmp_path: Path) -> None:
    doors.members[1]["role"] = "replica"
    result = run("switchover", "--state", str(tmp_path))

    assert result.exit_code == 1
    assert "no synchronous, streaming standby" in result.stderr


@pytest.mark.parametrize("command", ["up", "down", "status", "switchover"])
def test_every_command_has_help_with_examples(command: str) -> None:
    result = run(command, "--help")

    assert result.exit_code == 0
    assert "Examples:" in result.output
    assert f"holdfast {command}" in result.output


def test_the_picture_shows_a_region_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    doors = ToldDoors(manifest(tmp_path))
    doors.agents["a"] = None
    doors.silent |= {"patroni a", "patroni b", "wan"}
    stopped = ProcessStatus("scheduler", 0, False, 0, 0, "Disabled")
    told: dict[str, Any] = {"witness": {"scheduler": stopped}}
    monkeypatch.setattr(supervisor, "status", lambda socket: told.get(socket.parent.name))
    status = observe(doors.manifest, cast("Doors", doors))
    console = Console(width=100, record=True)
    console.print(draw(status, problems(status)))
    picture = console.export_text()

    assert "unknown: no answer" in picture
    assert "no active region" in picture
    assert "○scheduler" in picture
    assert "none: no answer" in picture


def test_a_terminal_gets_a_table_that_lives() -> None:
    console = Console(force_terminal=True, width=100, record=True)
    with shown(console) as listener:
        listener(Progress("", "", "says", None, "waiting for an interrupted change to end"))
        listener(Progress("root", "create", "started"))
        listener(Progress("root", "create", "done", 0.5))
        listener(Progress("wan", "refresh", "done", 0.1, "toxiproxy is dead"))
        listener(Progress("witness", "create", "started"))
        listener(Progress("witness", "create", "says", None, "waiting: etcd"))
        listener(Progress("region-a", "create", "failed", 1.0))
    text = console.export_text()

    for said in (
        "✓ ",
        "root",
        "toxiproxy is dead",
        "waiting: etcd",
        "failed",
        "waiting for an interrupted change",
    ):
        assert said in text


def test_a_log_gets_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(Console(force_terminal=False, width=300)) as listener:
        listener(Progress("wan", "refresh", "done", 0.1, "toxiproxy is dead"))
        listener(Progress("wan", "same", "done", 0.0))
        listener(Progress("region-a", "delete", "done", 2.0))
        listener(Progress("region-b", "create", "failed", 30.0))
        listener(Progress("", "", "says", None, "clearing"))

    assert capsys.readouterr().out.splitlines() == [
        "wan       found not healthy: toxiproxy is dead",
        "region-a  gone after 2.0 s",
        "region-b  failed after 30.0 s",
        "deployment clearing",
    ]


def test_the_commands_are_the_ones_that_the_command_line_names() -> None:
    assert {deploy.up.name, deploy.down.name, deploy.status.name, deploy.switchover.name} == set(deploy.__all__)
