"""Whom the services run as, and what that user can reach."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.toolchain import account
from infra.toolchain.errors import ToolchainError

pytestmark = pytest.mark.unit


class TestAccount:
    entry = pwd.struct_passwd(("holdfast", "x", 999, 998, "", "/nonexistent", "/usr/sbin/nologin"))

    def users(
        self, become_root: Callable[[], None], monkeypatch: pytest.MonkeyPatch, *, made_after: int
    ) -> list[list[str]]:
        """Lets the user exist only after so many look-ups, and records what was run."""
        calls: list[list[str]] = []
        looks = iter(range(100))

        def look(name: str) -> pwd.struct_passwd:
            if next(looks) < made_after:
                raise KeyError(name)
            return self.entry

        def run(command: tuple[str, ...], **options: object) -> None:
            calls.append(list(command))

        become_root()
        monkeypatch.setattr("pwd.getpwnam", look)
        monkeypatch.setattr("subprocess.run", run)
        return calls

    def test_without_root_services_run_as_the_caller(self) -> None:
        own = account.ensure_account()
        assert (own.uid, own.name) == (os.geteuid(), pwd.getpwuid(os.geteuid()).pw_name)

    def test_root_is_who_has_user_id_zero(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.undo()
        assert account.is_root() == (os.geteuid() == 0)

    def test_as_root_an_existing_user_is_used(
        self, become_root: Callable[[], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = self.users(become_root, monkeypatch, made_after=0)
        assert account.ensure_account() == account.Account("holdfast", 999, 998)
        assert calls == []

    def test_as_root_the_user_is_made(self, become_root: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
        calls = self.users(become_root, monkeypatch, made_after=1)
        assert account.ensure_account().uid == 999
        assert [call[0] for call in calls] == ["useradd"]
        assert {"--system", "/usr/sbin/nologin", "holdfast"} <= set(calls[0])

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (FileNotFoundError(), "useradd is missing"),
            (subprocess.CalledProcessError(10, "useradd", stderr="cannot lock\n"), r"\(cannot lock\)"),
        ],
    )
    def test_a_user_that_cannot_be_made_says_what_to_do(
        self, become_root: Callable[[], None], monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
    ) -> None:
        self.users(become_root, monkeypatch, made_after=1)

        def fail(command: tuple[str, ...], **options: object) -> None:
            raise error

        monkeypatch.setattr("subprocess.run", fail)
        monkeypatch.setattr("pwd.getpwall", list[pwd.struct_passwd])
        with pytest.raises(ToolchainError, match=f"{message}.*run as an unprivileged user"):
            account.ensure_account()

    def test_a_user_that_another_process_just_made_is_used(
        self, become_root: Callable[[], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.users(become_root, monkeypatch, made_after=1)

        def fail(command: tuple[str, ...], **options: object) -> None:
            raise subprocess.CalledProcessError(9, "useradd", stderr="exists")

        monkeypatch.setattr("subprocess.run", fail)
        monkeypatch.setattr("pwd.getpwall", lambda: [self.entry])
        assert account.ensure_account().uid == 999

    def test_others_reach_what_is_behind_open_directories_only(self, machine: Path) -> None:
        inner = machine / "outer" / "inner"
        inner.mkdir(parents=True)
        program = inner / "program"
        program.write_text("", encoding="utf-8")
        program.chmod(0o755)
        opened = [directory for directory in program.parents if directory.is_relative_to(machine.parent.parent)]
        for directory in opened:
            directory.chmod(0o755)
        assert account.others_can_execute(program)
        assert account.others_can_read(program)
        assert account.others_can_reach(inner / "not" / "yet" / "there")
        program.chmod(0o744)
        assert not account.others_can_execute(program)
        link = machine / "link"
        link.symlink_to(program)
        (machine / "outer").chmod(0o750)
        assert not account.others_can_read(link)

    def test_what_cannot_be_looked_at_is_out_of_reach(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def deny(path: Path) -> os.stat_result:
            raise PermissionError(path)

        monkeypatch.setattr(account.Path, "stat", deny)
        assert not account.others_can_reach(Path("/root/secret"))
