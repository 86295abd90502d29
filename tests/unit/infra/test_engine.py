"""Pulumi is run with its own files alone, and its events become progress and failures."""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from pulumi.automation import CommandError, EngineEvent

from infra.engine.command import Command
from infra.engine.guard import Busy, clear_locks, exclusively, pending_operations
from infra.engine.progress import Failure, Listener, Progress
from infra.engine.workspace import MARK, Workspace, stack_configuration, stacks

pytestmark = pytest.mark.unit

URN = "urn:pulumi:local::holdfast::pulumi-python:dynamic/holdfast:Witness::witness"
KIND = "pulumi-python:dynamic/holdfast:Witness"


def event(**content: Any) -> EngineEvent:
    return EngineEvent.from_json({"sequence": 1, "timestamp": 1, **content})


def step(op: str, kind: str = KIND, urn: str = URN, **more: Any) -> dict[str, Any]:
    return {"metadata": {"op": op, "urn": urn, "type": kind, "provider": "", **more}}


def says(message: str, severity: str = "info", urn: str = URN) -> EngineEvent:
    return event(diagnosticEvent={"message": message, "severity": severity, "urn": urn, "color": "never"})


def heard(*events: EngineEvent, only_looks: bool = False) -> tuple[list[Progress], Listener]:
    seen: list[Progress] = []
    listener = Listener(seen.append, only_looks=only_looks)
    for one in events:
        listener(one)
    return seen, listener


def script(tmp_path: Path, body: str) -> Command:
    path = tmp_path / "pulumi"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return Command(path, "3.259.0")


def test_an_operation_is_told_from_begin_to_end() -> None:
    seen, listener = heard(
        event(resourcePreEvent=step("create")),
        says("starting etcd\n"),
        event(resOutputsEvent=step("create")),
    )

    assert [(one.part, one.operation, one.status, one.message) for one in seen] == [
        ("witness", "create", "started", ""),
        ("witness", "create", "says", "starting etcd"),
        ("witness", "create", "done", ""),
    ]
    assert seen[-1].seconds is not None
    assert listener.changes == {"witness": "create"}


def test_what_is_no_part_is_not_told_of() -> None:
    region = "urn:pulumi:local::holdfast::holdfast:index:Region::a"
    seen, listener = heard(
        event(resourcePreEvent=step("create", "holdfast:index:Region", region)),
        event(resOutputsEvent=step("create", "holdfast:index:Region", region)),
        event(resOutputsEvent=step("read")),
        event(preludeEvent={"config": {}}),
        says("", urn=URN),
        says("something about the stack", urn=""),
    )

    assert seen == []
    assert listener.changes == {}


def test_a_failure_keeps_what_the_part_said_without_grpcs_words_or_colours() -> None:
    _, listener = heard(
        says("<{%fg 1%}>Exception calling application: etcd died\nlog: x<{%reset%}>\n", "error"),
        event(resOpFailedEvent={**step("create"), "status": 1, "steps": 1}),
        says("update failed", "error", urn=""),
    )

    assert listener.failures == [Failure("witness", "etcd died\nlog: x")]


def test_a_refresh_tells_what_it_found_dead_or_gone() -> None:
    dead = {"type": KIND, "urn": URN, "outputs": {"healthy": False, "detail": "etcd is dead"}}
    well = {**dead, "outputs": {"healthy": True}}
    _, within_up = heard(event(resOutputsEvent=step("refresh", new=dead)))
    _, alone = heard(event(resOutputsEvent=step("update", new=dead)), only_looks=True)
    _, gone = heard(event(resOutputsEvent=step("delete")), only_looks=True)
    _, fine = heard(event(resOutputsEvent=step("same", new=well)), only_looks=True)

    assert within_up.unhealthy == alone.unhealthy == {"witness": "etcd is dead"}
    assert gone.unhealthy == {"witness": "gone"}
    assert fine.unhealthy == {}
    assert alone.changes == {}


def test_a_note_about_plugins_on_path_is_not_told() -> None:
    seen, _ = heard(says("using pulumi-resource-pulumi-python from $PATH at /x", "warning", urn=""))

    assert seen == []
    assert heard(says("careful", "warning", urn=""))[0][0].message == "careful"


def test_pulumi_gets_none_of_the_users_own_pulumi_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_ACCESS_TOKEN", "token")
    monkeypatch.setenv("KEPT", "yes")
    result = script(tmp_path, 'echo "$1 $2 [$PULUMI_ACCESS_TOKEN] $KEPT $PULUMI_HOME"').run(
        ["up"], str(tmp_path), {"PULUMI_HOME": "/home"}
    )

    assert result.stdout == "--non-interactive up [] yes /home"


def test_a_command_that_fails_says_all_that_it_wrote(tmp_path: Path) -> None:
    out: list[str] = []
    err: list[str] = []
    with pytest.raises(CommandError, match="broken"):
        script(tmp_path, "echo one; echo broken >&2; exit 3").run([], str(tmp_path), {}, out.append, err.append)

    assert (out, err) == (["one"], ["broken"])


def test_an_interrupt_reaches_the_running_command_and_no_other(tmp_path: Path) -> None:
    command = script(tmp_path, 'trap "echo stopping; exit 0" INT; touch started; while true; do sleep 0.02; done')
    command.interrupt()
    results: list[str] = []
    thread = threading.Thread(target=lambda: results.append(command.run([], str(tmp_path), {}).stdout))
    thread.start()
    deadline = time.monotonic() + 10
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    command.interrupt()
    thread.join(10)

    assert results == ["stopping"]


def test_the_workspace_is_below_the_state_directory_and_keeps_its_secret(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "state", "local")
    opened = workspace.open(script(tmp_path, ""), lambda: None, {"holdfast:workers": 3})
    passphrase = Path((opened.env_vars or {})["PULUMI_CONFIG_PASSPHRASE_FILE"])

    assert passphrase.is_relative_to(tmp_path / "state" / "pulumi")
    assert stat.S_IMODE(passphrase.stat().st_mode) == 0o600
    assert len(passphrase.read_text()) >= 32
    project = yaml.safe_load((workspace.project / "Pulumi.yaml").read_text())
    assert project["runtime"]["options"]["virtualenv"] == sys.prefix
    assert yaml.safe_load((workspace.project / "Pulumi.local.yaml").read_text()) == {"config": {"holdfast:workers": 3}}


def test_a_new_configuration_keeps_what_pulumi_wrote_beside_it(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "state", "local")
    command = script(tmp_path, "")
    workspace.open(command, lambda: None, {"holdfast:workers": 3})
    settings = workspace.project / "Pulumi.local.yaml"
    settings.write_text("encryptionsalt: v1:x\n" + settings.read_text())
    workspace.open(command, lambda: None, {"holdfast:workers": 4})

    assert yaml.safe_load(settings.read_text()) == {
        "encryptionsalt": "v1:x",
        "config": {"holdfast:workers": 4},
    }
    workspace.forget()
    assert not workspace.project.exists()


def test_a_users_own_plugin_comes_before_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/users/pulumi/bin")
    workspace = Workspace(tmp_path / "state", "local")
    environment = workspace.open(script(tmp_path, ""), lambda: None, None).env_vars or {}
    order = environment["PATH"].split(os.pathsep)

    assert order == [str(tmp_path), "/users/pulumi/bin", str(tmp_path / "state" / "pulumi" / "plugins")]
    plugin = Path(order[-1]) / "pulumi-resource-pulumi-python"
    assert os.access(plugin, os.X_OK)
    assert "-m pulumi.dynamic" in plugin.read_text()
    assert environment[MARK] == str(workspace.project)


def test_the_stacks_are_the_checkouts() -> None:
    assert stacks() == ["cloud", "kind", "local"]
    assert stack_configuration("kind")["holdfast:target"] == "kind"
    with pytest.raises(KeyError):
        stack_configuration("none")


def test_the_guard_is_given_back(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, "local")
    with exclusively(workspace), pytest.raises(Busy, match=f"process {os.getpid()}"), exclusively(workspace):
        pass
    with exclusively(workspace):
        pass


def test_a_dead_changes_locks_are_removed(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, "local")
    workspace.locks.mkdir(parents=True)
    (workspace.locks / "x.json").write_text("{}")
    said: list[str] = []
    clear_locks(workspace, said.append)

    assert list(workspace.locks.iterdir()) == []
    assert said == []


def test_pending_operations_are_read_from_the_checkpoint(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, "local")
    assert not pending_operations(workspace)
    workspace.checkpoint.parent.mkdir(parents=True)
    workspace.checkpoint.write_text(json.dumps({"checkpoint": {"latest": {"pending_operations": [{}]}}}))
    assert pending_operations(workspace)
    workspace.checkpoint.write_text('{"checkpoint": {"latest": null}}')
    assert not pending_operations(workspace)
