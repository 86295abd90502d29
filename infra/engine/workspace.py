"""Pulumi's own files are in `<state>/pulumi`: backend, passphrase, plugins, and a project for each stack.

The project there has the same name, runtime and configuration as the checkout's, so the same program runs;
the checkout's files are never written.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from pulumi.automation import LocalWorkspace, PulumiFn

from infra.engine.command import Command
from infra.state import project_root

__all__ = ["MARK", "PROJECT", "Workspace", "stack_configuration", "stacks"]

PROJECT = "holdfast"
MARK = "HOLDFAST_PULUMI_PROJECT"
"""The environment variable by which Pulumi's processes are known to work on a stack."""

_PLUGIN = "pulumi-resource-pulumi-python"


@dataclass(frozen=True)
class Workspace:
    """Where Pulumi keeps what it knows of one stack of one state directory."""

    state: Path
    stack: str

    @property
    def home(self) -> Path:
        return self.state / "pulumi"

    @property
    def backend(self) -> Path:
        return self.home / "backend"

    @property
    def project(self) -> Path:
        return self.home / "stacks" / self.stack

    @property
    def checkpoint(self) -> Path:
        """What Pulumi knows of the stack; it exists exactly while the stack does."""
        return self.backend / ".pulumi" / "stacks" / PROJECT / f"{self.stack}.json"

    @property
    def locks(self) -> Path:
        return self.backend / ".pulumi" / "locks" / "organization" / PROJECT / self.stack

    @property
    def guard(self) -> Path:
        """The file whose lock says that somebody works on the stack."""
        return self.home / f"{self.stack}.lock"

    def open(self, command: Command, program: PulumiFn, config: Mapping[str, object] | None) -> LocalWorkspace:
        """The workspace, made where it is missing; with `config` the stack is configured anew."""
        for directory in (self.home, self.backend, self.project):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._write_project()
        if config is not None:
            self._write_configuration(config)
        return LocalWorkspace(
            work_dir=str(self.project),
            pulumi_home=str(self.home / "home"),
            program=program,
            env_vars=self._environment(Path(command.command)),
            secrets_provider="passphrase",
            pulumi_command=command,
        )

    def forget(self) -> None:
        """Removes the project of a stack that is no more."""
        shutil.rmtree(self.project, ignore_errors=True)

    def _environment(self, binary: Path) -> dict[str, str]:
        search = [str(binary.parent), os.environ.get("PATH", os.defpath), str(self._plugins())]
        return {
            "PATH": os.pathsep.join(search),
            MARK: str(self.project),
            "PULUMI_BACKEND_URL": f"file://{self.backend}",
            "PULUMI_CONFIG_PASSPHRASE_FILE": str(self._passphrase()),
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_DIY_BACKEND_DISABLE_CHECKPOINT_BACKUPS": "true",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }

    def _passphrase(self) -> Path:
        path = self.home / "passphrase"
        if not path.exists():
            _write(path, secrets.token_urlsafe(32), mode=0o600)
        return path

    def _plugins(self) -> Path:
        """The directory of a plugin for dynamic resources, for a Pulumi that brings none.

        It is last on PATH, so that the one which comes with a user's own Pulumi wins.
        """
        directory = self.home / "plugins"
        directory.mkdir(exist_ok=True)
        script = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -u -m pulumi.dynamic "$@"\n'
        path = directory / _PLUGIN
        if not path.exists() or path.read_text() != script:
            _write(path, script, mode=0o755)
        return directory

    def _write_project(self) -> None:
        runtime = {"name": "python", "options": {"virtualenv": sys.prefix}}
        _write(self.project / "Pulumi.yaml", yaml.safe_dump({"name": PROJECT, "runtime": runtime}))

    def _write_configuration(self, config: Mapping[str, object]) -> None:
        path = self.project / f"Pulumi.{self.stack}.yaml"
        known = yaml.safe_load(path.read_text()) if path.exists() else None
        settings = known if isinstance(known, dict) else {}  # Pulumi keeps its salt there
        _write(path, yaml.safe_dump({**settings, "config": dict(config)}, sort_keys=True))


def stacks() -> list[str]:
    """The stacks that the checkout has a configuration for."""
    return sorted(path.name.split(".")[1] for path in project_root().glob("Pulumi.*.yaml"))


def stack_configuration(stack: str) -> Mapping[str, object]:
    """What the checkout's `Pulumi.<stack>.yaml` sets, unvalidated; `KeyError` without such a stack."""
    path = project_root() / f"Pulumi.{stack}.yaml"
    if stack not in stacks():
        raise KeyError(stack)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    config = content.get("config") if isinstance(content, dict) else None
    return config if isinstance(config, dict) else {}


def _write(path: Path, content: str, *, mode: int = 0o600) -> None:
    """Replaces the file at once, never readable by more than `mode` says."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
    temporary.chmod(mode)
    temporary.replace(path)
