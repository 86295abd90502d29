"""Which Python and which uv make the virtual environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.toolchain import interpreter, uv
from infra.toolchain.errors import ToolchainError

pytestmark = pytest.mark.unit

Script = Callable[..., Path]


def completed(returncode: int = 0, stdout: str = "", stderr: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], returncode, stdout, stderr)


class TestInterpreter:
    def python(self, script: Script, name: str, version: str, directory: Path | None = None) -> Path:
        path = (directory or Path(os.environ["PATH"])) / name
        return script(name, f"""echo '[[{version.replace(".", ", ")}], "{path}", "/usr"]'""", directory)

    def test_the_one_of_the_existing_environment_is_kept(self, machine: Path, script: Script) -> None:
        self.python(script, "python3.11", "3.11")
        own = self.python(script, "python", "3.13", machine / "venv" / "bin")
        found = interpreter.find_interpreter(machine / "venv")
        assert found == interpreter.Interpreter(own, (3, 13), Path("/usr"))

    def test_an_empty_shim_is_passed_over(self, machine: Path, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(interpreter, "_SYSTEM", ())
        script("python3.11", "echo 'pyenv: python3.11: command not found'; exit 127")
        script("python3.12", "echo nonsense")
        self.python(script, "python3.13", "3.13")
        assert interpreter.find_interpreter(machine / "venv").version == (3, 13)

    def test_an_interpreter_that_others_cannot_run_is_refused_for_root(
        self, become_root: Callable[[], None], machine: Path, script: Script, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(interpreter, "_SYSTEM", ())
        monkeypatch.setattr(sys, "executable", "/nonexistent")
        self.python(script, "python3", "3.10")
        hidden = self.python(script, "python3.11", "3.11")
        become_root()
        monkeypatch.setattr(interpreter, "others_can_read", lambda path: True)
        monkeypatch.setattr(interpreter, "others_can_execute", lambda path: path != hidden)
        with pytest.raises(ToolchainError, match=r"python3\.11 .* cannot be run by another.*python3 is 3\.10"):
            interpreter.find_interpreter(machine / "venv")

    def test_no_interpreter_says_what_to_install(self, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(interpreter, "_SYSTEM", ())
        monkeypatch.setattr(sys, "executable", "/nonexistent")
        with pytest.raises(ToolchainError, match=r"no usable Python 3\.11 or newer was found: install one"):
            interpreter.find_interpreter(machine / "venv")


PYTHON = interpreter.Interpreter(Path("/usr/bin/python3.11"), (3, 11), Path("/usr"))


class TestUv:
    def test_the_one_on_path_is_used_if_it_starts(self, machine: Path, script: Script) -> None:
        assert uv.find_uv(machine / "uv") is None
        own = script("uv", "exit 0", machine / "uv" / "bin")
        broken = script("uv", "exit 1")
        assert uv.find_uv(machine / "uv") == own
        broken.write_text("#!/bin/sh\nexit 0\n", encoding="utf-8")
        assert uv.find_uv(machine / "uv") == broken

    def fake_pip(self, machine: Path, monkeypatch: pytest.MonkeyPatch, *, works_with: str) -> list[str]:
        """A Python in which only one way to install works: `venv`, `--target`, after `apt`, or none."""
        binary = machine / "uv" / "bin" / "uv"
        calls: list[str] = []
        apt: list[str] = []

        def run(command: list[str]) -> subprocess.CompletedProcess[str]:
            calls.append(" ".join(command))
            if "venv" in command:
                (machine / "uv").mkdir(exist_ok=True)
                return completed(0 if works_with == "venv" or apt else 1, "ensurepip is not available")
            if works_with in command or works_with == "venv" or apt:
                binary.parent.mkdir(parents=True)
                binary.write_text("", encoding="utf-8")
                return completed()
            return completed(1, stderr="No module named pip")

        monkeypatch.setattr(uv, "_run", run)
        monkeypatch.setattr(uv, "apt_install", apt.append)
        return calls

    @pytest.mark.parametrize("way", ["venv", "--target"])
    def test_without_one_the_pinned_version_is_installed(
        self, machine: Path, monkeypatch: pytest.MonkeyPatch, way: str
    ) -> None:
        calls = self.fake_pip(machine, monkeypatch, works_with=way)
        lines: list[str] = []
        assert uv.make_uv(machine / "uv", PYTHON, lines.append) == machine / "uv" / "bin" / "uv"
        assert calls[-1].endswith(f"uv=={uv.VERSION}")
        assert lines == [f"installing uv {uv.VERSION} into {machine / 'uv'}"]

    def test_root_gets_the_venv_module_from_debian(
        self, become_root: Callable[[], None], machine: Path, script: Script, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script("apt-get", "exit 0")
        become_root()
        self.fake_pip(machine, monkeypatch, works_with="apt")
        lines: list[str] = []
        assert uv.make_uv(machine / "uv", PYTHON, lines.append).is_file()
        assert lines[-1] == "installing python3-venv with apt-get"

    def test_others_are_told_what_to_install(self, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fake_pip(machine, monkeypatch, works_with="nothing")
        with pytest.raises(ToolchainError, match=r"(?s)No module named pip.*Debian: python3-venv"):
            uv.make_uv(machine / "uv", PYTHON, print)

    def test_sync_takes_the_lock_and_never_downloads_a_python(
        self, become_root: Callable[[], None], machine: Path, script: Script, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("VIRTUAL_ENV", "/somewhere/else")
        monkeypatch.setenv("UV_LINK_MODE", "symlink")
        become_root()
        program = script(
            "uv",
            f'echo "$PWD $UV_PYTHON_DOWNLOADS $UV_LINK_MODE ${{VIRTUAL_ENV-unset}} $*" > {machine}/call',
        )
        uv.sync(program, machine, PYTHON)
        assert (machine / "call").read_text(encoding="utf-8") == (
            f"{machine} never copy unset sync --locked --all-groups --compile-bytecode --python /usr/bin/python3.11\n"
        )

    def test_a_failed_sync_says_what_to_try(self, machine: Path, script: Script) -> None:
        with pytest.raises(ToolchainError, match=r"failed with status 2.*set HTTPS_PROXY"):
            uv.sync(script("uv", "exit 2"), machine, PYTHON)
