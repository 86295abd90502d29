"""The library as its users have it: from its own wheel, with the README's examples."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pydantic_ai_dapr
import pytest
from pydantic_ai import Agent
from pydantic_ai_dapr import DaprDurability, DaprWorkflowAgentRunner

from infra.state import project_root
from infra.toolchain.uv import find_uv
from tests.component.dapr_stack import API_TOKEN, DaprStack, dapr_stack
from tests.support.recorded_runs import recording

pytestmark = pytest.mark.component
ROOT = project_root()
LIBRARY = ROOT / "app" / "pydantic_ai_dapr"
README = (LIBRARY / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaprStack]:
    with dapr_stack(tmp_path_factory.mktemp("dapr")) as made:
        yield made


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: re.search(r'name="(\w+)"', text).group(1))
def test_the_readmes_examples_print_what_they_say(example: str, stack: DaprStack) -> None:
    environment = os.environ | {
        "DAPR_GRPC_PORT": str(stack.sidecars[0].grpc_port),
        "DAPR_API_TOKEN": API_TOKEN,
        "PYTHONPATH": str(ROOT / "app"),
    }
    ran = subprocess.run(
        [sys.executable, "-c", example], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    for promised in re.findall(r"print\(.*\)  # (.*)", example):
        assert promised in ran.stdout.splitlines()


def test_the_readme_names_all_that_is_public() -> None:
    assert [name for name in pydantic_ai_dapr.__all__ if f"`{name}" not in README] == []


@pytest.fixture(scope="module")
def uv() -> Path:
    found = find_uv(ROOT / ".holdfast" / "uv")
    assert found is not None, "make setup installs uv"
    return found


@pytest.fixture(scope="module")
def wheel(uv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    _from_the_index(uv, "build", LIBRARY, "--wheel", "-o", out)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_has_the_library_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {f"pydantic_ai_dapr/{path.name}" for path in [*LIBRARY.glob("*.py"), LIBRARY / "py.typed"]}


ALONE = """
import sys
from importlib.resources import files
from pathlib import Path

import pydantic_ai_dapr
from pydantic_ai import Agent
from pydantic_ai_dapr import DaprDurability, DaprWorkflowAgentRunner, Export

assert Path(pydantic_ai_dapr.__file__).is_relative_to(sys.prefix), pydantic_ai_dapr.__file__
assert files(pydantic_ai_dapr).joinpath("py.typed").is_file()
agent = Agent("test", name="agent", capabilities=[DaprDurability()])
print(agent.run_sync("Hello!").output)
print(DaprWorkflowAgentRunner(agent).replay(Export.load(Path(sys.argv[1]))))
"""
UNREACHABLE = ("error sending request", "the network was disabled")


def test_the_wheel_alone_runs_an_agent_and_replays_a_run_without_a_sidecar(
    uv: Path, wheel: Path, tmp_path: Path
) -> None:
    run, engine = recording(Agent("test", name="agent", capabilities=[DaprDurability()]))
    engine.run(run.serve)
    run.stop()
    history, python = tmp_path / "run.json", tmp_path / "empty" / "bin" / "python"
    engine.export().save(history)
    subprocess.run([uv, "venv", tmp_path / "empty", "--python", sys.executable], check=True, capture_output=True)
    _from_the_index(uv, "pip", "install", "--python", python, wheel)
    ran = _run(python, "-I", "-c", ALONE, history)
    assert ran.returncode == 0, ran.stderr
    output, report = ran.stdout.splitlines()
    assert output == "success (no tool calls)"
    assert report == str(DaprWorkflowAgentRunner(run.agent).replay(engine.export()))
    assert "difference=None" in report
    shown = _run(python, "-I", "-m", "pydantic_ai_dapr", "--help")
    assert (shown.returncode, shown.stderr) == (0, "")


def _from_the_index(*command: object) -> None:
    ran = _run(*command)
    if ran.returncode != 0 and any(sign in ran.stderr for sign in UNREACHABLE):
        pytest.skip(f"UNKNOWN, for lack of a package index: {ran.stderr[-500:]}")
    assert ran.returncode == 0, ran.stderr


def _run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, check=False)
