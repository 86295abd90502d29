"""Files are whole and private; a directory that the services cannot enter is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.local import files
from infra.local.errors import PartError
from infra.local.files import check_reachable, exclusively, write
from infra.toolchain.account import Account

pytestmark = pytest.mark.unit

SOMEBODY = Account("holdfast", 4242, 4242)


def test_a_file_is_written_once_and_again_only_when_it_differs(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    assert write(path, "one")
    assert not write(path, "one")
    assert write(path, "two")
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_others_may_read_is_closed_again(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write(path, "one")
    path.chmod(0o644)
    assert write(path, "one")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        write(tmp_path / "secret", "one")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_the_services_cannot_enter_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "is_root", lambda: True)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    tmp_path.chmod(0o755)
    with pytest.raises(PartError, match=r"'holdfast', which may not enter .*: `chmod o\+x .*HOLDFAST_STATE"):
        check_reachable(closed / "local", SOMEBODY)


def test_without_root_the_services_go_wherever_the_caller_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "is_root", lambda: False)
    (tmp_path / "closed").mkdir(mode=0o700)
    check_reachable(tmp_path / "closed" / "local", SOMEBODY)


def test_the_lock_can_be_taken_again_after_a_failure_inside_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="inside"), exclusively(tmp_path):
        raise ValueError("inside")
    with exclusively(tmp_path):
        pass
