"""The command line on one state directory, as a program that reads its JSON uses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HOLDFAST = str(Path(sys.executable).with_name("holdfast"))


class Cli:
    """The command line on one state directory."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.directory = state / "local"

    def __call__(self, *arguments: str, exits: int = 0) -> dict[str, Any]:
        program = [HOLDFAST, *arguments, "--json"]
        answer = subprocess.run(
            program,
            env={**os.environ, "HOLDFAST_STATE": str(self.state)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == exits, answer.stderr + answer.stdout
        return json.loads(answer.stdout)

    def settled(self, seconds: float = 60.0) -> dict[str, Any]:
        """The status once nothing is wrong any more."""
        deadline = time.monotonic() + seconds
        while True:
            program = [HOLDFAST, "status", "--json", "--state", str(self.state)]
            status = json.loads(subprocess.run(program, capture_output=True, text=True, check=False).stdout)
            if status["ok"]:
                return status
            assert time.monotonic() < deadline, f"not settled in {seconds} s: {status['problems']}"
            time.sleep(0.5)
