"""`make setup`, from nothing and again."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.toolchain import account, bootstrap, cache, go, interpreter, pins, postgres, stamp, uv
from infra.toolchain.errors import PostgresMissing

pytestmark = pytest.mark.unit

Script = Callable[..., Path]
DAPRD = pins.tool_named("daprd")
PYTHON = interpreter.Interpreter(Path("/usr/bin/python3.11"), (3, 11), Path("/usr"))


class TestStamp:
    def test_it_is_fresh_until_an_input_a_fact_or_a_program_changes(self, machine: Path, script: Script) -> None:
        lock = machine / "uv.lock"
        lock.write_text("1", encoding="utf-8")
        program = script("holdfast", "exit 0")
        record = machine / "setup.json"
        key = stamp.fingerprint([lock], ["linux"])
        assert not stamp.is_fresh(record, key)
        stamp.write(record, key, {"holdfast": str(program)})
        assert stamp.is_fresh(record, key)
        assert stamp.fingerprint([lock], ["darwin"]) != key
        lock.write_text("2", encoding="utf-8")
        assert not stamp.is_fresh(record, stamp.fingerprint([lock], ["linux"]))
        program.unlink()
        assert not stamp.is_fresh(record, key)

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"key": "k", "programs": []}'])
    def test_a_damaged_one_is_not_fresh(self, machine: Path, content: str) -> None:
        (machine / "setup.json").write_text(content, encoding="utf-8")
        assert not stamp.is_fresh(machine / "setup.json", "k")


class TestBootstrap:
    @pytest.fixture
    def checkout(
        self,
        put_in_cache: Callable[[pins.Tool], Path],
        machine: Path,
        script: Script,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Path:
        """A checkout on a machine where all but the Python environment is there."""
        root = machine / "checkout"
        root.mkdir()
        for name in ("pyproject.toml", "uv.lock"):
            (root / name).write_text("", encoding="utf-8")
        for tool in pins.TOOLS:
            put_in_cache(tool)
        for program in postgres.PROGRAMS:
            script(program, "echo 'postgres (PostgreSQL) 15.18'", machine / "pg")
        links = "/bin/mkdir -p .venv/bin; for x in python holdfast; do /bin/ln -sf /bin/sh .venv/bin/$x; done"
        script("uv", f'[ "$1" = sync ] || exit 0; {links}')
        monkeypatch.setattr(interpreter, "find_interpreter", lambda environment: PYTHON)
        monkeypatch.setattr(postgres, "find_postgres", lambda: postgres.Postgres(machine / "pg", (15, 18)))
        return root

    def test_it_makes_everything_once(self, checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert bootstrap.main(checkout) == 0
        lines = capsys.readouterr().err.splitlines()
        assert lines[1:-1] == ["setup: Python environment in .venv with /usr/bin/python3.11"]
        assert lines[-1].startswith("setup: ready after 0 s; services run as ")
        assert bootstrap.main(checkout) == 0
        assert capsys.readouterr().err == ""
        (checkout / ".venv" / "bin" / "holdfast").unlink()
        assert bootstrap.main(checkout) == 0
        assert "ready" in capsys.readouterr().err

    def test_a_missing_go_is_told_before_anything_long(
        self, checkout: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        cache.cached(DAPRD).unlink()
        assert bootstrap.main(checkout) == 2
        assert "install Go 1.26.4 or newer" in capsys.readouterr().err
        assert not (checkout / ".venv").exists()

    def test_what_has_to_be_built_is_announced(
        self, checkout: Path, fake_go: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        cache.cached(DAPRD).unlink()
        assert bootstrap.main(checkout) == 0
        output = capsys.readouterr().err
        assert "setup: to build with Go: daprd (minutes" in output
        assert "setup: built daprd 1/1" in output

    def test_uv_is_made_where_there_is_none(
        self, machine: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program = machine / "bin" / "uv"
        monkeypatch.setattr(uv, "find_uv", lambda home: None)
        monkeypatch.setattr(uv, "make_uv", lambda home, python, progress: program)
        assert bootstrap.main(checkout) == 0

    @pytest.mark.parametrize(("root", "status"), [(False, 2), (True, 0)])
    def test_only_root_has_a_missing_postgresql_installed(
        self, machine: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch, root: bool, status: int
    ) -> None:
        def missing() -> postgres.Postgres:
            raise PostgresMissing("install one")

        monkeypatch.setattr(postgres, "find_postgres", missing)
        found = postgres.Postgres(machine / "pg", (15, 18))
        monkeypatch.setattr(postgres, "install_postgres", lambda progress: found)
        self.as_root(monkeypatch, root=root, readable=True)
        assert bootstrap.main(checkout) == status

    def test_as_root_a_checkout_that_services_cannot_read_is_refused(
        self, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.as_root(monkeypatch, root=True, readable=False)
        assert bootstrap.main(checkout) == 2
        assert "move the checkout to where every user may go" in capsys.readouterr().err

    def test_a_program_that_is_absent_after_all_is_a_defect(
        self, checkout: Path, script: Script, capsys: pytest.CaptureFixture[str]
    ) -> None:
        script("uv", "exit 0")
        assert bootstrap.main(checkout) == 2
        assert ".venv/bin/holdfast should be there now" in capsys.readouterr().err

    def test_an_interrupt_says_how_to_go_on(
        self, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def interrupt(tools: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(go, "check_go", interrupt)
        assert bootstrap.main(checkout) == 130
        assert "run `make setup` again" in capsys.readouterr().err

    def as_root(self, monkeypatch: pytest.MonkeyPatch, *, root: bool, readable: bool) -> None:
        own = account.Account("holdfast", 999, 998)
        monkeypatch.setattr(account, "is_root", lambda: root)
        monkeypatch.setattr(account, "ensure_account", lambda: own)
        monkeypatch.setattr(account, "others_can_read", lambda path: readable)


class TestBootstrapStart:
    """What happens before anything of this project can be imported."""

    def start(self, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int]) -> list[str]:
        executed: list[str] = []

        def execute(path: str, arguments: list[str]) -> None:
            executed.append(path)
            raise SystemExit(0)

        monkeypatch.setattr(sys, "version_info", version)
        monkeypatch.setattr(os, "execv", execute)
        monkeypatch.setattr(sys, "path", ["/script", *sys.path])
        with pytest.raises(SystemExit) as info:
            runpy.run_path(str(bootstrap.__file__), run_name="__main__")
        return [*executed, str(info.value.code)]

    def test_an_old_python_hands_over_to_a_newer_one(self, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
        newer = script("python3.12", "exit 0")
        assert self.start(monkeypatch, (3, 9)) == [str(newer), "0"]

    def test_an_old_python_alone_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.start(monkeypatch, (3, 9)) == ["2"]
        assert "Python 3.11 or newer is needed" in capsys.readouterr().err

    def test_a_new_enough_python_sets_up(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(stamp, "is_fresh", lambda record, key: True)
        assert self.start(monkeypatch, (3, 11)) == ["0"]
