"""A part's provider changes exactly what has to change, sees what is dead, and may be asked again."""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
from pulumi.dynamic import Config, ConfigureRequest

from infra.local import engine
from infra.local.engine import Reporter, engine_address
from infra.local.part import PARTS, PartProvider
from infra.properties import to_properties, to_settings
from infra.topology import EarlyRelease, Lease, Settings
from tests.support import parts

pytestmark = pytest.mark.unit


def settings(tmp_path: Path, **changes: Any) -> Settings:
    return Settings(name="local", directory=tmp_path / "local", **changes)


def properties(part: str, given: Settings) -> dict[str, Any]:
    return {"part": part, "settings": to_properties(given)}


@pytest.fixture
def provider() -> PartProvider:
    return PartProvider("tests.support.parts")


def difference(
    provider: PartProvider, old: dict[str, Any], new: dict[str, Any]
) -> tuple[bool | None, list[str] | None]:
    result = provider.diff("id", old, new)
    return result.changes, result.replaces


def test_settings_survive_the_state_with_numbers_turned_into_doubles(tmp_path: Path) -> None:
    given = settings(
        tmp_path,
        workers=3,
        lease=Lease(30, 2, 4),
        early_release=EarlyRelease(False, 2.5),
        environment={"MODE": "x"},
    )
    kept = to_properties(given)
    doubled = {**kept, "workers": 3.0, "lease": {name: float(value) for name, value in kept["lease"].items()}}

    back = to_settings(doubled, {"MODE": "x", "OTHER": "y"})
    assert back == given
    assert isinstance(back.workers, int)
    assert isinstance(back.lease.ttl, int)


def test_a_variable_that_is_no_longer_set_does_not_hinder_a_removal(tmp_path: Path) -> None:
    kept = to_properties(settings(tmp_path, environment={"MODE": "x"}))

    assert to_settings(kept, {}).environment == {}


def test_a_deployment_by_an_earlier_version_can_be_removed(tmp_path: Path) -> None:
    kept = to_properties(settings(tmp_path))
    kept.pop("traces")
    assert to_settings(kept, {}) == settings(tmp_path)


def test_a_created_part_is_the_same_afterwards(tmp_path: Path, provider: PartProvider) -> None:
    wanted = properties("wan", settings(tmp_path))
    created = provider.create(dict(wanted))

    assert created.id == "local/wan"
    assert created.outs is not None
    assert created.outs["facts"]["api"] == "https://127.0.0.1/wan"
    assert difference(provider, created.outs, wanted) == (False, [])


def test_a_dead_part_is_seen_and_changes_without_a_new_setting(tmp_path: Path, provider: PartProvider) -> None:
    wanted = properties("witness", settings(tmp_path))
    outs = provider.create(dict(wanted)).outs or {}
    (tmp_path / "local" / "witness" / "alive").unlink()

    seen = provider.read("local/witness", outs)
    assert seen.outs is not None
    assert (seen.outs["healthy"], seen.outs["detail"]) == (False, "witness is dead")
    assert difference(provider, seen.outs, wanted) == (True, [])

    repaired = provider.update("local/witness", seen.outs, dict(wanted)).outs or {}
    assert repaired["healthy"] is True
    assert difference(provider, repaired, wanted) == (False, [])


def test_a_part_that_is_gone_leaves_the_state(tmp_path: Path, provider: PartProvider) -> None:
    seen = provider.read("local/wan", properties("wan", settings(tmp_path)))

    assert (seen.id, seen.outs) == (None, {})


@pytest.mark.parametrize(
    ("change", "touched"),
    [
        ({"workers": 4}, {"region-a", "region-b"}),
        ({"lease": Lease(ttl=30)}, {"region-a", "region-b"}),
        ({"early_release": EarlyRelease(enabled=False)}, {"region-a", "region-b"}),
        ({"model": "openai:gpt-5"}, {"region-a", "region-b"}),
        ({"environment": {"MODE": "x"}}, {"region-a", "region-b", "payments"}),
        ({}, set()),
    ],
)
def test_a_setting_changes_only_the_parts_that_are_made_of_it(
    tmp_path: Path, provider: PartProvider, change: dict[str, Any], touched: set[str]
) -> None:
    changed = set()
    for part in PARTS:
        old = {**properties(part, settings(tmp_path)), "healthy": True}
        if difference(provider, old, properties(part, settings(tmp_path, **change)))[0]:
            changed.add(part)

    assert changed == touched


def test_a_new_value_of_a_variable_is_noticed_without_being_kept(tmp_path: Path, provider: PartProvider) -> None:
    old = {**properties("payments", settings(tmp_path, environment={"KEY": "one"})), "healthy": True}
    new = properties("payments", settings(tmp_path, environment={"KEY": "two"}))

    assert difference(provider, old, new)[0] is True
    assert "one" not in str(old["settings"]["environment_fingerprint"])


def test_a_deployment_that_moves_is_replaced(tmp_path: Path, provider: PartProvider) -> None:
    old = {**properties("root", settings(tmp_path / "old")), "healthy": True}

    assert difference(provider, old, properties("root", settings(tmp_path / "new"))) == (
        True,
        ["settings.directory"],
    )


def test_removing_the_root_removes_what_a_failed_up_left(tmp_path: Path, provider: PartProvider) -> None:
    given = settings(tmp_path)
    (parts.orders(given.directory) / "fail-region-b").touch()
    root = provider.create(properties("root", given)).outs or {}
    with pytest.raises(parts.PartError):
        provider.create(properties("region-b", given))
    assert (given.directory / "region-b").exists()

    provider.delete("local/root", root)

    assert not given.directory.exists()
    assert parts.record(given.directory)[-6:] == [f"remove {part}" for part in reversed(PARTS)]


def test_removing_another_part_removes_that_part_alone(tmp_path: Path, provider: PartProvider) -> None:
    given = settings(tmp_path)
    provider.delete("local/wan", properties("wan", given))

    assert parts.record(given.directory) == ["remove wan"]


def test_a_part_that_does_not_exist_is_refused(provider: PartProvider) -> None:
    (failure,) = provider.check({}, {"part": "region-c"}).failures

    assert "'region-c' is none of root, wan" in failure.reason
    assert provider.check({}, {"part": "wan"}).failures == []


def test_the_engine_is_a_plugins_first_argument() -> None:
    assert engine_address(("plugin", "--flag", "127.0.0.1:4000")) == "127.0.0.1:4000"
    assert engine_address(("pytest", "tests/unit")) is None
    assert engine_address(("pytest",)) is None


def test_progress_without_an_engine_goes_to_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest"])
    Reporter(None).say("starting etcd")

    assert capsys.readouterr().err == "starting etcd\n"


def test_progress_that_the_engine_does_not_take_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Gone:
        def Log(self, request: object, timeout: float) -> None:
            raise grpc.RpcError

    monkeypatch.setattr(sys, "argv", ["plugin", "127.0.0.1:1"])
    monkeypatch.setattr(engine, "_engine", lambda _: Gone())
    Reporter("urn").say("starting etcd")

    assert "starting etcd" in capsys.readouterr().err


def test_a_provider_ends_when_its_engine_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def leave(code: int) -> None:
        ended.set()
        threading.Event().wait()  # the process would be gone

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setattr(sys, "argv", ["plugin", address])
        monkeypatch.setattr(engine, "_LOOK_SECONDS", 0.02)
        monkeypatch.setattr("os._exit", leave)
        PartProvider().configure(ConfigureRequest(Config({}, "holdfast")))
        assert not ended.wait(0.2)

    assert ended.wait(5)
