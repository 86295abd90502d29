"""Runs an agent's code over an export, in a process of its own: `python -m service.replay … < EXPORT`.

It asks no model and calls no tool. Exit status as everywhere: 0 the same, 1 something else, 2 it could not be checked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_ai_dapr import Export, PayloadLostError, ReplayReport

from service.hosting import Effects, load_hosted

REPLAY_SECONDS = 60.0


class Replayed(BaseModel):
    """What a replay showed: `difference` is the first one, `problem` why there was no replay."""

    model_config = ConfigDict(frozen=True)

    events: int = 0
    actions: int = 0
    difference: str | None = None
    problem: str | None = None


def replayed(export: Export, reference: str, model: str, max_iterations: int) -> ReplayReport:
    """The replay of an export by the hosted agent `reference`. Raises ValueError, and what the library raises."""
    from pydantic_ai_dapr import DaprWorkflowAgentRunner

    hosted, nowhere = load_hosted(reference), Path(os.devnull)
    if not hasattr(hosted, "build_agent"):
        raise ValueError(
            f"{reference} is a {type(hosted).__name__}, not what a region hosts; "
            "`python -m pydantic_ai_dapr replay` takes an agent or a runner"
        )
    effects = Effects(
        url="https://replay.invalid", ca=nowhere, token_file=nowhere, region="replay", epoch=0, worker="replay"
    )
    agent: Any = hosted.build_agent(model=model, model_latency_seconds=0.0, effects=effects)
    runner = DaprWorkflowAgentRunner(agent, name=hosted.name, max_iterations=max_iterations, port=1)
    return runner.replay(export)


def replayed_apart(content: bytes, reference: str, model: str, max_iterations: int) -> Replayed:
    """The same in another process, which a history of any size or kind can't keep busy for long."""
    command = [sys.executable, "-m", "service.replay", reference, model, str(max_iterations)]
    try:
        answer = subprocess.run(command, input=content, capture_output=True, timeout=REPLAY_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Replayed(problem=f"the replay did not end within {REPLAY_SECONDS:g} s")
    try:
        return Replayed.model_validate_json(answer.stdout)
    except ValidationError:
        last = answer.stderr.decode(errors="replace").strip().splitlines()[-1:]
        return Replayed(problem=f"the replay ended with status {answer.returncode}: {' '.join(last)[:500]}")


def main(arguments: list[str]) -> int:
    """Replay what is on standard input, and tell on standard output."""
    from pydantic_ai.exceptions import UserError

    reference, model, max_iterations = arguments
    try:
        export = Export.model_validate(json.load(sys.stdin))
        report = replayed(export, reference, model, int(max_iterations))
    except (PayloadLostError, UserError, ValueError) as error:
        print(Replayed(problem=str(error)).model_dump_json())
        return 2
    difference = str(report.difference) if report.difference else None
    print(Replayed(events=report.events, actions=report.actions, difference=difference).model_dump_json())
    return 0 if report.same else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
