"""What is pinned, and how a pinned version is recognised."""

from __future__ import annotations

import pytest

from infra.toolchain import pins

pytestmark = pytest.mark.unit

DAPRD = pins.tool_named("daprd")
ETCD = pins.tool_named("etcd")


class TestPins:
    @pytest.mark.parametrize("tool", [*pins.TOOLS, *pins.PEERS], ids=lambda tool: tool.name)
    def test_every_tool_is_required_at_its_version_by_its_module(self, tool: pins.Tool) -> None:
        requirements = (tool.directory / "go.mod").read_text(encoding="utf-8").split()
        assert f"v{tool.version}" in requirements
        assert tool.package in requirements

    @pytest.mark.parametrize("module", sorted({tool.module for tool in [*pins.TOOLS, *pins.PEERS]}))
    def test_no_module_names_a_registry_or_leaves_a_local_replacement(self, module: str) -> None:
        text = (pins.MODULES / module / "go.mod").read_text(encoding="utf-8")
        assert "=> .." not in text
        assert "proxy." not in text

    def test_the_stamp_carries_the_pinned_version(self) -> None:
        stamped = [tool for tool in pins.TOOLS if tool.stamp]
        assert stamped
        assert all(tool.stamp.endswith(tool.version) for tool in stamped)

    def test_the_key_changes_with_the_flags_and_names_the_tool(self) -> None:
        assert DAPRD.key.startswith("daprd-1.18.0-")
        assert DAPRD.key != pins.Tool(**{**vars(DAPRD), "tags": ()}).key

    def test_only_the_exact_version_is_recognised(self) -> None:
        assert ETCD.recognises("etcd Version: 3.6.16\nGit SHA: none\n")
        assert not ETCD.recognises("etcd Version: 3.6.160\n")
        assert not ETCD.recognises("etcd Version: 3x6.16\n")

    def test_an_unknown_tool_is_refused_with_the_names_there_are(self) -> None:
        with pytest.raises(KeyError, match="daprd, placement"):
            pins.tool_named("kubectl")

    def test_the_platform_is_told_in_words_of_go(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("platform.machine", lambda: "x86_64")
        monkeypatch.setattr("platform.system", lambda: "Linux")
        assert pins.go_platform() == ("linux", "amd64")
