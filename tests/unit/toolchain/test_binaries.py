"""Which binary of a tool is used, and where built ones are kept."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.toolchain import binaries, cache, pins
from infra.toolchain.errors import ToolchainError, ToolMissing

pytestmark = pytest.mark.unit

Script = Callable[..., Path]
ETCD = pins.tool_named("etcd")
SENTRY = pins.tool_named("sentry")


class TestFind:
    def test_a_matching_binary_on_path_is_used(self, script: Script) -> None:
        path = script("etcd", 'echo "etcd Version: 3.6.16"')
        assert binaries.find(ETCD) == binaries.Found(path, "PATH")

    @pytest.mark.parametrize("body", ['echo "etcd Version: 3.5.9"', "exit 1", "exec /no/such/program"])
    def test_a_binary_on_path_that_does_not_match_is_passed_over(
        self, put_in_cache: Callable[[pins.Tool], Path], script: Script, body: str
    ) -> None:
        script("etcd", body)
        built = put_in_cache(ETCD)
        assert binaries.find(ETCD) == binaries.Found(built, "cache")

    def test_a_program_that_does_not_return_is_passed_over(
        self, script: Script, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(binaries, "_VERSION_SECONDS", 0.05)
        script("etcd", "exec /bin/sleep 5")
        assert binaries.find(ETCD) is None

    def test_dapr_init_is_used_and_its_daprd_vouches_for_its_neighbours(self, machine: Path, script: Script) -> None:
        directory = machine / "home" / ".dapr" / "bin"
        daprd = script("daprd", "echo 1.18.0", directory)
        sentry = script("sentry", "exit 2", directory)
        assert binaries.require(["daprd", "sentry"]) == {"daprd": daprd, "sentry": sentry}
        assert binaries.find(SENTRY) == binaries.Found(sentry, "dapr init")

    def test_an_unrelated_program_called_sentry_is_never_run(self, machine: Path, script: Script) -> None:
        script("daprd", "echo 1.18.0")
        script("sentry", f"touch {machine}/ran; echo 1.18.0")
        assert binaries.find(SENTRY) is None
        assert not (machine / "ran").exists()

    def test_require_never_builds_and_names_all_that_is_missing(
        self, put_in_cache: Callable[[pins.Tool], Path], fake_go: Path
    ) -> None:
        put_in_cache(ETCD)
        with pytest.raises(ToolMissing, match=r"daprd 1\.18\.0, pulumi .* run `make setup`"):
            binaries.require(["daprd", "etcd", "pulumi"])

    def test_as_root_a_service_must_be_executable_by_others(
        self, become_root: Callable[[], None], script: Script, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = script("etcd", 'echo "etcd Version: 3.6.16"')
        become_root()
        monkeypatch.setattr(binaries, "others_can_execute", lambda path: path.exists() and path.stat().st_mode & 1 == 1)
        assert binaries.find(ETCD) == binaries.Found(path, "PATH")
        path.chmod(0o700)
        assert binaries.find(ETCD) is None

    def test_as_root_pulumi_may_be_for_root_alone(
        self, become_root: Callable[[], None], script: Script, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = script("pulumi", "echo v3.259.0")
        path.chmod(0o700)
        become_root()
        assert binaries.find(pins.tool_named("pulumi")) == binaries.Found(path, "PATH")


class TestCache:
    def test_the_users_cache_is_the_default(self, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("HOLDFAST_CACHE")
        assert cache.cache_directory() == machine / "home" / ".cache" / "holdfast"
        monkeypatch.setenv("XDG_CACHE_HOME", str(machine / "xdg"))
        assert cache.cache_directory() == machine / "xdg" / "holdfast"

    def test_as_root_a_cache_that_services_cannot_reach_gives_way_to_a_shared_one(
        self, become_root: Callable[[], None], machine: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("HOLDFAST_CACHE")
        become_root()
        (machine / "home").chmod(0o700)
        assert cache.cache_directory() == Path("/var/cache/holdfast")
        monkeypatch.setattr(cache, "others_can_reach", lambda path: True)
        assert cache.cache_directory() == machine / "home" / ".cache" / "holdfast"

    def test_what_is_published_is_open_to_all_whatever_the_umask(self) -> None:
        before = os.umask(0o077)
        try:
            with cache.staging(ETCD) as directory:
                (directory / "etcd").write_text("", encoding="utf-8")
                place = cache.publish(directory / "etcd", ETCD)
        finally:
            os.umask(before)
        assert not directory.exists()
        root = cache.cache_directory()
        modes = [path.stat().st_mode & 0o777 for path in (place, place.parent, place.parent.parent, root)]
        assert modes == [0o755] * 4

    def test_a_cache_that_cannot_be_written_says_what_to_set(
        self, machine: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (machine / "file").write_text("", encoding="utf-8")
        monkeypatch.setenv("HOLDFAST_CACHE", str(machine / "file" / "cache"))
        with pytest.raises(ToolchainError, match="set HOLDFAST_CACHE"), cache.staging(ETCD):
            pass

    def test_the_second_builder_waits_and_says_for_whom(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lines: list[str] = []
        with cache.locked(lines.append):
            holder = os.open(cache.cache_directory() / "tools" / ".lock", os.O_RDWR)
        fcntl.flock(holder, fcntl.LOCK_EX)
        waits = iter([None, None])

        def wait(seconds: float) -> None:
            if next(waits, holder) == holder:
                os.close(holder)

        monkeypatch.setattr("time.sleep", wait)
        with cache.locked(lines.append):
            pass
        assert lines == [f"waiting for the build by process {os.getpid()} … 0 s"]
