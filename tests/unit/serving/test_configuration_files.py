"""A process that can't understand its configuration names each wrong key and does not start."""

from __future__ import annotations

from pathlib import Path

import pytest
from serving import ConfigurationFile, Listen, configuration_of, read_secret
from serving.config import CANNOT_START

pytestmark = pytest.mark.unit


class Inner(ConfigurationFile):
    port: int


class Example(ConfigurationFile):
    listen: Listen
    retries: int = 3
    inner: Inner
    more: tuple[Inner, ...] = ()


GOOD = '{"listen": "127.0.0.1:8443", "inner": {"port": 1}}'


def refused(text: str | bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What standard error says of a file that is refused."""
    path = tmp_path / "example.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(SystemExit) as exit_:
        configuration_of(Example, "example", ["--config", str(path)])
    assert exit_.value.code == CANNOT_START == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert all(line.startswith(f"example: {path}: ") for line in captured.err.splitlines())
    return captured.err


def test_a_good_file_is_read_with_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "example.json"
    path.write_text(GOOD)
    config = configuration_of(Example, "example", ["--config", str(path)])
    assert config == Example(listen="127.0.0.1:8443", retries=3, inner=Inner(port=1))


def test_an_unknown_key_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused('{"listen": "a:1", "inner": {"port": 1}, "retrys": 5}', tmp_path, capsys)
    assert "retrys: Extra inputs are not permitted" in message


def test_a_missing_key_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "inner: Field required" in refused('{"listen": "a:1"}', tmp_path, capsys)


def test_a_key_inside_another_is_named_with_its_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused('{"listen": "a:1", "inner": {"port": "x"}, "more": [{"port": 1}, {"prt": 2}]}', tmp_path, capsys)
    assert "inner.port: " in message
    assert "more.1.port: Field required" in message
    assert "more.1.prt: Extra inputs are not permitted" in message


@pytest.mark.parametrize(
    "listen", ["8443", ":8443", "localhost", "localhost:", "localhost:0", "localhost:65536", "h:x"]
)
def test_an_address_that_is_not_host_and_port_is_refused(
    listen: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(f'{{"listen": "{listen}", "inner": {{"port": 1}}}}', tmp_path, capsys)
    assert "listen: " in message
    assert "is not host:port" in message


@pytest.mark.parametrize("text", ["", "{", "[]", '"listen"', GOOD + "x", b"\xff\xfe{}"])
def test_a_file_that_is_no_json_object_is_refused(
    text: str | bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(text, tmp_path, capsys)


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        configuration_of(Example, "example", ["--config", str(tmp_path / "none.json")])
    assert exit_.value.code == 2
    assert "none.json: can't be read: No such file or directory" in capsys.readouterr().err


def test_a_process_must_be_told_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        configuration_of(Example, "example", [])
    assert exit_.value.code == 2
    assert "--config" in capsys.readouterr().err


def test_a_secret_is_read_without_the_end_of_its_line(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("  s3cret\n")
    assert read_secret(tmp_path / "token") == "s3cret"


def test_an_empty_secret_is_refused_by_the_name_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("\n")
    with pytest.raises(ValueError, match="token is empty"):
        read_secret(tmp_path / "token")
