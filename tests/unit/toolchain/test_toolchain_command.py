"""`python -m infra.toolchain` for scripts."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.toolchain import cache, pins
from infra.toolchain.__main__ import main

pytestmark = pytest.mark.unit

ETCD = pins.tool_named("etcd")


class TestCommandLine:
    def test_it_runs_as_a_module(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "argv", ["toolchain", "list"])
        monkeypatch.delitem(sys.modules, "infra.toolchain.__main__")
        with pytest.raises(SystemExit) as info:
            runpy.run_module("infra.toolchain", run_name="__main__", alter_sys=False)
        assert info.value.code == 0

    def test_list_tells_where_each_tool_is(
        self, put_in_cache: Callable[[pins.Tool], Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = put_in_cache(ETCD)
        assert main(["list"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == len(pins.TOOLS)
        assert lines[0].split() == ["daprd", "1.18.0", "missing"]
        assert ["etcd", "3.6.16", "cache", str(path)] in [line.split() for line in lines]

    def test_list_speaks_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["list", "--json"]) == 0
        first = json.loads(capsys.readouterr().out)[0]
        assert first == {"tool": "daprd", "version": "1.18.0", "source": "missing", "path": None}

    def test_path_prints_a_path_or_fails_with_status_1(
        self, put_in_cache: Callable[[pins.Tool], Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["path", "etcd"]) == 1
        assert "run `make setup`" in capsys.readouterr().err
        path = put_in_cache(ETCD)
        assert main(["path", "etcd"]) == 0
        assert capsys.readouterr().out == f"{path}\n"

    def test_ensure_builds_with_progress_on_standard_error(
        self, fake_go: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["ensure", "etcd"]) == 0
        captured = capsys.readouterr()
        assert captured.out == f"etcd\t{cache.cached(ETCD)}\n"
        assert "building etcd 1/1" in captured.err

    def test_ensure_that_cannot_build_exits_with_status_2(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["ensure"]) == 2
        assert "install Go" in capsys.readouterr().err

    def test_a_name_that_is_no_tool_is_a_usage_error(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as info:
            main(["ensure", "etdc"])
        assert info.value.code == 2
        assert "daprd" in capsys.readouterr().err
