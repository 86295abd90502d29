"""Who runs the agent: each in an environment and a process of its own, asked line by line."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.state import project_root
from infra.toolchain import ToolchainError
from infra.toolchain.uv import find_uv
from loadtests.library.stack import Stack
from tests.component.dapr_stack import API_TOKEN

PROGRAMS = Path(__file__).parent / "programs"
LIBRARY = str(Path(__file__).parents[2] / "app" / "pydantic_ai_dapr")
PYDANTIC_AI = "2.68.0"
READY_SECONDS, CALL_SECONDS = 90.0, 300.0


class UnmeasurableError(Exception):
    """A contender could not be had, or didn't do what it was asked: says which, and why."""


@dataclass(frozen=True)
class Contender:
    """`requirements` of its own environment; `arguments` of its program on a stack.

    A run of more than `longest` steps doesn't end; `beyond` says what becomes of it.
    """

    name: str
    title: str
    program: str
    requirements: Sequence[str]
    arguments: Callable[[Stack], list[str]]
    longest: float = math.inf
    beyond: str = ""


def _pydantic_ai(extra: str) -> str:
    return f"pydantic-ai-slim[{extra}]=={PYDANTIC_AI}"


CONTENDERS = {
    one.name: one
    for one in (
        Contender("plain", "the agent alone", "on_nothing.py", (_pydantic_ai("spec"),), lambda _: []),
        Contender(
            "holdfast",
            "pydantic_ai_dapr",
            "on_dapr.py",
            (LIBRARY, _pydantic_ai("spec"), "psutil"),
            lambda stack: [str(stack.sidecar(0).grpc_port), "256"],
        ),
        Contender(
            "engine",
            "Dapr's SDK without an agent, two empty activities a step",
            "on_engine.py",
            (_pydantic_ai("spec"), "dapr==1.19.0"),
            lambda stack: [str(stack.sidecar_of("engine").grpc_port)],
            longest=100,
            beyond="each turn runs the whole history again, and nothing cuts it",
        ),
        Contender(
            "dbos",
            "DBOS 3.4.0, PydanticAI's integration",
            "on_dbos.py",
            (_pydantic_ai("dbos"), "dbos==3.4.0"),
            lambda stack: [stack.dbos],
        ),
        Contender(
            "temporal",
            "Temporal 1.31.1, PydanticAI's integration",
            "on_temporal.py",
            (_pydantic_ai("temporal"), "temporalio==1.35.0"),
            lambda stack: [stack.temporal],
        ),
        Contender(
            "diagrid",
            "diagrid 0.5.3, with PydanticAI 2.31.1",
            "on_diagrid.py",
            ("diagrid[agent-core]==0.5.3", "pydantic-ai-slim[openai]==2.31.1"),
            lambda stack: [str(stack.sidecar_of("diagrid").grpc_port), str(stack.sidecar_of("diagrid").http_port)],
            longest=100,
            beyond="each request carries all messages: the history reaches the sidecar's body limit, the run stalls",
        ),
    )
}


class Program:
    """A contender's process, which answers one call at a time."""

    def __init__(self, command: list[str], log: Path, **environment: str) -> None:
        self._log = log
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=PROGRAMS,
                env=os.environ | environment,
                start_new_session=True,
            )

    def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """The answer. Raises UnmeasurableError where there is none, or an error."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps({"call": name, **arguments}).encode() + b"\n")
            self.process.stdin.flush()
        return self.answer(f"`{name}`", CALL_SECONDS)

    def answer(self, to: str, seconds: float) -> dict[str, Any]:
        """The next line that it says."""
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(seconds):
                # What it says later would be taken for the answer to the next call.
                self.kill()
                raise UnmeasurableError(f"no answer to {to} within {seconds:g} s; see {self._log}")
        line = self.process.stdout.readline()
        if not line:
            raise UnmeasurableError(f"ended before it answered to {to}:\n{_end_of(self._log)}")
        reply = json.loads(line)
        if "error" in reply:
            raise UnmeasurableError(f"{to} failed: {reply['error']}")
        return reply

    def kill(self) -> None:
        """SIGKILL. May be repeated."""
        self.process.kill()
        self.process.wait(10)


@contextlib.contextmanager
def running(
    contender: Contender, stack: Stack, environments: Path, arguments: list[str] | None = None
) -> Generator[Program]:
    """The contender's program, ready to be asked. Raises UnmeasurableError."""
    try:
        given = contender.arguments(stack) if arguments is None else arguments
    except (ToolchainError, subprocess.CalledProcessError, AssertionError) as error:
        raise UnmeasurableError(f"what it stands on can't be had: {error}") from error
    command = [str(interpreter(contender, environments)), str(PROGRAMS / contender.program), *given]
    # The token goes by environment, not by argument: arguments are public.
    program = Program(command, stack.directory / f"{contender.name}.log", DAPR_API_TOKEN=API_TOKEN, DO_NOT_TRACK="1")
    try:
        program.answer("its start", READY_SECONDS)
        yield program
    finally:
        program.kill()


@functools.cache
def interpreter(contender: Contender, environments: Path) -> Path:
    """The Python of the contender's environment; the library in it is as it is now. Raises UnmeasurableError."""
    place = environments / contender.name
    made, wanted = place / "requirements.txt", "\n".join(contender.requirements) + "\n"
    python = place / "bin" / "python"
    is_made = made.exists() and made.read_text(encoding="utf-8") == wanted
    if is_made and LIBRARY not in contender.requirements:
        return python
    uv = find_uv(project_root() / ".holdfast" / "uv")
    if uv is None:
        raise UnmeasurableError("there is no uv to make its environment with: run `make setup`")
    install = ["pip", "install", "--quiet", "--python", str(python), "--reinstall-package", "pydantic-ai-dapr"]
    commands = [[*install, *contender.requirements]]
    if not is_made:
        commands.insert(0, ["venv", "--quiet", "--clear", "--python", sys.executable, str(place)])
    for command in commands:
        answer = subprocess.run([str(uv), *command], capture_output=True, text=True, check=False)
        if answer.returncode != 0:
            raise UnmeasurableError(f"its environment can't be made: {answer.stderr.strip()[-500:]}")
    made.write_text(wanted, encoding="utf-8")
    return python


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:])


__all__ = ["CONTENDERS", "Contender", "Program", "UnmeasurableError", "interpreter", "running"]
