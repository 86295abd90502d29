"""A deployment's layout with certificates and files, and no process."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from infra.local import layout as layout_module
from infra.local import target
from infra.local.layout import Layout
from infra.toolchain.account import Account
from infra.topology import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(name="test", directory=tmp_path / "local")


@pytest.fixture
def layout(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Layout:
    me = pwd.getpwuid(os.geteuid())
    account = Account(me.pw_name, me.pw_uid, me.pw_gid)
    for module in (layout_module, target):
        monkeypatch.setattr(module, "ensure_account", lambda: account)
    monkeypatch.setattr(target, "check_reachable", lambda *_: None)
    target.converge("root", settings, lambda _: None)
    return target.layout_of(settings)
