"""Changing an agent's code while its runs are under way."""

from __future__ import annotations

from pydantic_ai_dapr.run import current_run


def patched(name: str) -> bool:
    """Whether a change of the workflow's side applies here: in instructions, hooks, history processors, toolsets.

    ``if patched("ask-twice"): …`` takes the new way in every run that comes by for the first time after the deploy,
    and in each run stays at what it was. A run that had come by before goes on in the old way, for which the code
    is kept until no such run is left. True outside a durable run. Tools need none of this: they are not replayed.
    """
    run = current_run.get()
    return True if run is None else run.is_patched(name)
