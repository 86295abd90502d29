"""How missing tools are built, and what a failed build says."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from infra.toolchain import binaries, cache, go, pins
from infra.toolchain.errors import BuildFailed, GoUnusable

pytestmark = pytest.mark.unit

Script = Callable[..., Path]
DAPRD = pins.tool_named("daprd")
ETCD = pins.tool_named("etcd")


class TestEnsure:
    def test_what_is_found_needs_no_go(self, put_in_cache: Callable[[pins.Tool], Path]) -> None:
        built = put_in_cache(ETCD)
        assert go.ensure(["etcd"]) == {"etcd": built}

    def test_what_is_missing_is_built_once_with_progress(
        self, put_in_cache: Callable[[pins.Tool], Path], fake_go: Path
    ) -> None:
        lines: list[str] = []
        put_in_cache(DAPRD)
        paths = go.ensure(["daprd", "etcd", "sentry"], lines.append)
        assert paths == {name: cache.cached(pins.tool_named(name)) for name in ("daprd", "etcd", "sentry")}
        assert lines == [
            "building etcd 1/2 … 0 s",
            "built etcd 1/2 in 0 s",
            "building sentry 2/2 … 0 s",
            "built sentry 2/2 in 0 s",
        ]
        fake_go.unlink()
        assert go.ensure(["daprd", "etcd", "sentry"]) == paths

    def test_what_another_process_built_meanwhile_is_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answers = iter([None, binaries.Found(Path("/theirs/etcd"), "cache")])
        monkeypatch.setattr(go, "find", lambda tool: next(answers))
        assert go.ensure(["etcd"]) == {"etcd": Path("/theirs/etcd")}

    def test_the_build_is_pure_go_for_this_machine(
        self, machine: Path, script: Script, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GOOS", "plan9")
        monkeypatch.setenv("GOPROXY", "https://example.invalid")
        script(
            "go",
            f'[ $1 = env ] && echo go1.27 && exit; echo > "$3"; '
            f'echo "$CGO_ENABLED $GOWORK $GOPROXY ${{GOOS-unset}} $*" > {machine}/call',
        )
        go.ensure(["daprd"])
        call = (machine / "call").read_text(encoding="utf-8")
        assert call.startswith("0 off https://example.invalid unset build -o ")
        assert "-mod=readonly -buildvcs=false -trimpath -tags stablecomponents" in call

    def test_a_long_build_reports_again_and_again(self, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(go, "_REPORT_SECONDS", 0.02)
        script("go", '[ $1 = env ] && echo go1.26.8 && exit; /bin/sleep 0.2; echo > "$3"')
        lines: list[str] = []
        go.ensure(["etcd"], lines.append)
        assert lines.count("building etcd 1/1 … 0 s") > 1

    def test_an_interrupted_build_leaves_no_process_and_nothing_in_the_cache(
        self, machine: Path, script: Script
    ) -> None:
        script("go", f"[ $1 = env ] && echo go1.26.8 && exit; echo $$ > {machine}/pid; exec /bin/sleep 60")

        def interrupt(line: str) -> None:
            while not (machine / "pid").exists() or not (machine / "pid").read_text():
                pass
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            go.ensure(["etcd"], interrupt)
        with pytest.raises(ProcessLookupError):
            os.kill(int((machine / "pid").read_text()), 0)
        assert not list((machine / "cache" / "tools").glob(".etcd-*"))
        assert binaries.find(ETCD) is None

    @pytest.mark.parametrize(
        ("output", "advice"),
        [
            ("dial tcp: no route", "set GOPROXY"),
            ("write: no space left on device", "make room"),
            ("compile: signal: killed", "GOMAXPROCS=1"),
        ],
    )
    def test_a_failed_build_quotes_its_end_and_says_what_to_do(self, script: Script, output: str, advice: str) -> None:
        script("go", f"[ $1 = env ] && echo go1.26.8 && exit; echo {output}; exit 3")
        with pytest.raises(BuildFailed, match=r"etcd 3\.6\.16 failed with status 3; the end of .*etcd\.log") as info:
            go.ensure(["etcd"])
        assert output in str(info.value)
        assert advice in str(info.value)

    def test_a_full_disk_is_seen_before_the_build(self, fake_go: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=5 * 1024**2))
        with pytest.raises(BuildFailed, match="5 MB are free"):
            go.ensure(["etcd"])

    def test_a_missing_go_says_which_to_install(self) -> None:
        with pytest.raises(GoUnusable, match=r"Go is not on PATH.*install Go 1\.26\.4 or newer"):
            go.ensure(["etcd", "daprd"][::-1])

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("echo go1.22.1", r"go1\.22\.1 is too old to build etcd: install Go 1\.26\.0"),
            ("echo go.mod requires go 1.26 >&2; exit 1", "requires go 1.26; install Go"),
        ],
    )
    def test_an_old_go_says_which_to_install(self, script: Script, body: str, message: str) -> None:
        script("go", body)
        with pytest.raises(GoUnusable, match=message):
            go.check_go([ETCD])

    def test_a_module_without_a_go_line_is_a_damaged_checkout(
        self, machine: Path, fake_go: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pins, "MODULES", machine)
        (machine / "etcd").mkdir()
        (machine / "etcd" / "go.mod").write_text("module x\n", encoding="utf-8")
        with pytest.raises(GoUnusable, match="restore it from version control"):
            go.check_go([ETCD])


class TestSource:
    def test_it_is_where_go_has_put_it(self, script: Script) -> None:
        script("go", '[ $1 = env ] && echo go1.27 && exit; echo "{\\"Dir\\": \\"/modules/$4@v1\\"}"')
        assert go.source("daprd", "github.com/dapr/dapr") == Path("/modules/github.com/dapr/dapr@v1")

    def test_a_module_that_cannot_be_had_is_told_with_its_reason(self, script: Script) -> None:
        script("go", "[ $1 = env ] && echo go1.27 && exit; echo no such host >&2; exit 1")
        with pytest.raises(GoUnusable, match=r"github\.com/dapr/dapr can't be fetched: no such host"):
            go.source("daprd", "github.com/dapr/dapr")
