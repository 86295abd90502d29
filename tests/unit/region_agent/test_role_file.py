"""The role file says the old role or the new one, whole, and an agent can live with any file that it finds."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
import service.role
from region_agent.role import RoleFile

pytestmark = pytest.mark.unit


@pytest.fixture
def file(tmp_path: Path) -> RoleFile:
    return RoleFile(tmp_path / "run" / "role.json", "a")


def test_a_role_is_read_as_it_was_written_also_by_another_process(file: RoleFile) -> None:
    before = datetime.now(UTC)
    written = file.write("active", 7)
    assert RoleFile(file.path, "a").read() == written
    assert (written.region, written.role, written.epoch) == ("a", "active", 7)
    assert before <= written.since <= datetime.now(UTC)


def test_it_lasts_as_long_as_it_is_the_same(file: RoleFile) -> None:
    first = file.write("standby", 3)
    assert file.write("standby", 4).since == first.since
    assert file.write("activating", 5).since > first.since


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"{}", b'{"region": "a", "role": "boss", "epoch": 1}', b"\x00" * 100, b"\xff\xfe{}"],
    ids=["empty", "half", "null", "list", "no-members", "no-such-role", "zeros", "no-text"],
)
def test_a_file_that_says_nothing_is_no_role_and_is_replaced(file: RoleFile, content: bytes) -> None:
    file.path.parent.mkdir()
    file.path.write_bytes(content)
    assert file.read() is None
    assert file.write("standby", 3) == file.read()


def test_a_file_that_can_not_be_read_is_no_role(file: RoleFile) -> None:
    file.path.mkdir(parents=True)
    assert file.read() is None


def test_workers_and_the_api_understand_what_is_written(file: RoleFile) -> None:
    written = file.write("activating", 7)
    understood = service.role.RoleFile(file.path).read()
    assert understood is not None
    assert understood.model_dump() == written.model_dump()
    assert json.loads(file.path.read_text())["since"] == written.model_dump(mode="json")["since"]


def test_whoever_reads_while_it_is_written_finds_a_whole_role(file: RoleFile) -> None:
    file.write("standby", 0)
    over, found = threading.Event(), list[object]()

    def look() -> None:
        while not over.is_set():
            found.append(RoleFile(file.path, "a").read())

    reader = threading.Thread(target=look)
    reader.start()
    for epoch in range(200):
        file.write("active" if epoch % 2 else "standby", epoch)
    over.set()
    reader.join(5)
    assert None not in found
    assert [path.name for path in file.path.parent.iterdir()] == ["role.json"]
