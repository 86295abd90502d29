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

from infra.state import project_root
from infra.toolchain.uv import find_uv
from tests.component.dapr_stack import API_TOKEN, DaprStack, dapr_stack

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


def test_the_wheel_has_the_library_and_nothing_else(tmp_path: Path) -> None:
    uv = find_uv(ROOT / ".holdfast" / "uv")
    assert uv is not None, "make setup installs uv"
    subprocess.run([uv, "build", str(LIBRARY), "--wheel", "-o", tmp_path], check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {f"pydantic_ai_dapr/{path.name}" for path in [*LIBRARY.glob("*.py"), LIBRARY / "py.typed"]}
