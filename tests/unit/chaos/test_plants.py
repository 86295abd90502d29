"""A planted bug patches what it names, once that is imported, and breaks what it says."""

from __future__ import annotations

import asyncio
import importlib
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from pydantic_ai_dapr.types import Operation
from refund_desk.effects import HttpEffects
from region_agent.sweep import Sweeper

from chaos.plants import PLANTS, hook
from chaos.plants.hook import after_import

pytestmark = pytest.mark.unit
Patch = Callable[[ModuleType], None]


@pytest.fixture
def patches(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Patch]]:
    """What a plant would patch, by module; nothing is patched."""

    def of(plant: str) -> dict[str, Patch]:
        found: dict[str, Patch] = {}
        monkeypatch.setattr(hook, "after_import", found.__setitem__)
        runpy.run_path(str(PLANTS[plant].folder / "sitecustomize.py"))
        return found

    return of


def module(**members: Any) -> Any:
    return SimpleNamespace(**members)


def test_without_the_sweep_no_run_is_signalled(patches: Callable[[str], dict[str, Patch]]) -> None:
    assert callable(Sweeper._signal)
    sweeper = type("Patched", (Sweeper,), {})
    patches("recovery-sweep-off")["region_agent.sweep"](module(Sweeper=sweeper))
    bare = sweeper.__new__(sweeper)
    bare._signal(SimpleNamespace(run_id="run-1"))
    assert not hasattr(bare, "signals")


def test_without_its_key_every_attempt_has_another(
    patches: Callable[[str], dict[str, Patch]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = patches("no-idempotency-key")
    operation = type("Patched", (Operation,), {})
    found["pydantic_ai_dapr.types"](module(Operation=operation))
    one = operation(run_id="run-1", instance_id="run-1", ordinal=3, kind="tool", name="note", attempt=1)
    assert one.key != one.key
    assert one.key.startswith("run-1:")

    waited: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        await real(0)

    class Effects(HttpEffects):
        async def apply(self, kind: Any, payload: Any) -> Any:
            return {"did": kind}

    found["refund_desk.effects"](module(HttpEffects=Effects))
    monkeypatch.setattr(asyncio, "sleep", sleep)
    assert asyncio.run(Effects.__new__(Effects).apply("notes", {})) == {"did": "notes"}
    assert waited == [1.0]


def test_a_refund_is_sent_twice_under_two_keys_and_all_else_once(patches: Callable[[str], dict[str, Patch]]) -> None:
    sent: list[tuple[str, str]] = []

    class Client:
        async def post(self, url: str, *, json: Any, headers: dict[str, str]) -> str:
            sent.append((url, headers["Idempotency-Key"]))
            return "answer"

    patches("effect-runs-twice")["refund_desk.effects"](module(httpx=module(AsyncClient=Client)))
    for url in ("/refunds", "/notes"):
        assert asyncio.run(Client().post(url, json={}, headers={"Idempotency-Key": "run-1:4"})) == "answer"
    assert sent == [("/refunds", "run-1:4:again"), ("/refunds", "run-1:4"), ("/notes", "run-1:4")]


@pytest.mark.parametrize("plant", PLANTS)
def test_what_a_plant_patches_exists(patches: Callable[[str], dict[str, Patch]], plant: str) -> None:
    for name in patches(plant):
        assert importlib.import_module(name)


def test_other_imports_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("plain_module", "awaited_module"):
        (tmp_path / f"{name}.py").write_text("answer = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    patched: list[str] = []
    after_import("awaited_module", lambda module: patched.append(module.__name__))
    for name in ("plain_module", "awaited_module"):
        importlib.import_module(name)
        del sys.modules[name]
    assert patched == ["awaited_module"]


def test_a_module_that_is_not_there_stays_an_import_error() -> None:
    after_import("no_such_module_anywhere", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        importlib.import_module("no_such_module_anywhere")
