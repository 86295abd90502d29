"""`python -m pydantic_ai_dapr`: look at runs, take their histories away as files, and check those.

Exit codes: 0 it holds, 1 it does not hold, 2 it could not be checked or the input was wrong.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast, get_args

from pydantic import JsonValue
from pydantic_ai import Agent
from pydantic_core import to_json

from pydantic_ai_dapr.client import AgentRunClient, workflow_name
from pydantic_ai_dapr.export import Export, StateStore
from pydantic_ai_dapr.history import Step, steps
from pydantic_ai_dapr.payloads import PayloadLostError
from pydantic_ai_dapr.runner import DaprWorkflowAgentRunner
from pydantic_ai_dapr.signatures import verify
from pydantic_ai_dapr.types import Status, WorkflowUnavailableError

HOLDS, DOES_NOT_HOLD, UNCHECKED = 0, 1, 2
_CONTEXT = ("ctx", "deps", "parameters", "settings")
"""What an input repeats at every step."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except (ValueError, OSError, PayloadLostError, WorkflowUnavailableError) as error:
        print(f"error: {error}", file=sys.stderr)
        return UNCHECKED


def _runs(options: argparse.Namespace) -> int:
    for run in _client(options).runs(options.status):
        print(f"{run.run_id}\t{run.status}\t{run.created_at:%Y-%m-%d %H:%M:%S}")
    return HOLDS


def _history(options: argparse.Namespace) -> int:
    given = Path(options.run)
    events = Export.load(given).history() if options.agent_name is None else _client(options).history(options.run)
    _print(steps(events), as_json=options.json)
    return HOLDS


def _export(options: argparse.Namespace) -> int:
    store = _store(options) if options.state_dsn_file else None
    export = _client(options).export(options.run, store)
    export.save(options.file)
    print(f"{options.run}: {len(export.recorded)} events, {len(export.signatures)} signatures, in {options.file}")
    return HOLDS


def _replay(options: argparse.Namespace) -> int:
    export = Export.load(options.file)
    report = _runner(options.agent, export, options.max_iterations).replay(export)
    if report.difference is not None:
        print(report.difference)
        return DOES_NOT_HOLD
    print(f"{report.instance_id}: the code does the same, {report.actions} actions over {report.events} events")
    return HOLDS


def _verify(options: argparse.Namespace) -> int:
    found = verify(Export.load(options.file), options.trust_anchors.read_bytes(), options.signer)
    signers = ", ".join(found.signers) or "nobody"
    print(f"{found.proven} of {found.events} events are proven, signed by {signers}")
    if not found.valid:
        print(f"event {found.proven}: {found.reason}")
    elif not found.ended:
        print("the history has no end: the run had not ended, or the end was cut off")
    return HOLDS if found.valid else DOES_NOT_HOLD


def _rerun(options: argparse.Namespace) -> int:
    print(_client(options).rerun(options.run, step=options.step, fresh=options.fresh))
    return HOLDS


def _print(found: Iterable[Step], *, as_json: bool) -> None:
    for step in found:
        if as_json:
            print(step.model_dump_json())
            continue
        took = "open" if step.seconds is None else f"{step.seconds:.3f} s"
        again = f", issued {step.issued} times" if step.issued > 1 else ""
        print(f"{step.ordinal} {step.kind} {step.name}, attempt {step.attempt}{again}, {step.started:%H:%M:%S}, {took}")
        print(f"  in   {_short(step.input)}")
        if step.error is not None:
            print(f"  fail {step.error.type}: {step.error.message}")
        elif step.asleep is not None:
            print(f"  sleeps for {step.asleep:g} s")
        elif step.ended is not None:
            print(f"  out  {_short(step.output)}")


def _short(value: JsonValue) -> str:
    if isinstance(value, dict):
        value = {key: one for key, one in value.items() if key not in _CONTEXT}
    text = to_json(value).decode()
    return text if len(text) <= 160 else f"{text[:160]}… ({len(text)} characters; --json has them)"


def _client(options: argparse.Namespace) -> AgentRunClient:
    token = options.token_file.read_text().strip() if options.token_file else os.environ.get("DAPR_API_TOKEN")
    return AgentRunClient(options.agent_name, host=options.host, port=options.port, api_token=token)


def _store(options: argparse.Namespace) -> StateStore:
    try:
        psycopg: Any = importlib.import_module("psycopg")
    except ImportError as error:
        raise ValueError("--state-dsn-file needs psycopg: pip install 'psycopg[binary]'") from error

    def read(keys: list[str]) -> dict[str, bytes]:
        with psycopg.connect(options.state_dsn_file.read_text().strip()) as connection:
            return dict(connection.execute("SELECT key, value FROM state WHERE key = ANY(%s)", [keys]).fetchall())

    return StateStore(options.app_id, read, options.namespace)


def _runner(reference: str, export: Export, max_iterations: int) -> DaprWorkflowAgentRunner[Any, Any]:
    module, _, attribute = reference.partition(":")
    try:
        found: object = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"agent {reference!r} can't be loaded: {error}; name it as package.module:attribute"
        ) from error
    if callable(found) and not isinstance(found, Agent):
        found = found()
    if isinstance(found, DaprWorkflowAgentRunner):
        return cast("DaprWorkflowAgentRunner[Any, Any]", found)
    if not isinstance(found, Agent):
        raise ValueError(f"{reference} is a {type(found).__name__}; name an agent, a runner, or what makes one")
    name = export.workflow.removeprefix(workflow_name(""))
    agent = cast("Agent[Any, Any]", found)
    return DaprWorkflowAgentRunner(agent, name=name, max_iterations=max_iterations, port=1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m pydantic_ai_dapr", description="Durable agent runs and their histories."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(run: Any, name: str, about: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=about, description=about)
        made.set_defaults(command=run)
        return made

    def of_agent(made: argparse.ArgumentParser, *, required: bool = True) -> None:
        made.add_argument("--agent-name", required=required, metavar="NAME", help="the name that it runs under")
        made.add_argument("--host", default="127.0.0.1", help="the sidecar's")
        made.add_argument("--port", type=int, default=os.environ.get("DAPR_GRPC_PORT", "50001"), help="its gRPC port")
        made.add_argument("--token-file", type=Path, metavar="FILE", help="its API token; default: $DAPR_API_TOKEN")

    runs = command(_runs, "runs", "List an agent's runs.")
    of_agent(runs)
    runs.add_argument("--status", action="append", choices=get_args(Status), help="only these; may be repeated")

    history = command(_history, "history", "Show a run's steps, from the engine (--agent-name) or from an export.")
    history.add_argument("run", metavar="RUN|FILE")
    of_agent(history, required=False)
    history.add_argument("--json", action="store_true", help="a JSON object for each step, whole")

    export = command(_export, "export", "Write a run's history to a file.")
    export.add_argument("run", metavar="RUN")
    export.add_argument("file", type=Path, metavar="FILE")
    of_agent(export)
    export.add_argument(
        "--state-dsn-file", type=Path, metavar="FILE", help="the state store's PostgreSQL; for `verify`"
    )
    export.add_argument("--app-id", help="the sidecar's, where the state store is read")
    export.add_argument("--namespace", default="default", help="the sidecar's")

    replay = command(_replay, "replay", "Prove that an agent's code does what an export says; needs no sidecar.")
    replay.add_argument("file", type=Path, metavar="FILE")
    replay.add_argument("--agent", required=True, metavar="MODULE:ATTRIBUTE", help="an agent, a runner, or its factory")
    replay.add_argument("--max-iterations", type=int, default=25, help="as the run had; a runner has its own")

    check = command(_verify, "verify", "Check the signatures of an export; needs no sidecar.")
    check.add_argument("file", type=Path, metavar="FILE")
    check.add_argument(
        "--trust-anchors", required=True, type=Path, metavar="PEM", help="the root, from a trusted place"
    )
    check.add_argument("--signer", metavar="SPIFFE", help="who must have signed: spiffe://DOMAIN/ns/NAMESPACE/APP-ID")

    rerun = command(_rerun, "rerun", "Run an ended run again, and print the new instance id.")
    rerun.add_argument("run", metavar="RUN")
    of_agent(rerun)
    rerun.add_argument("--step", type=int, metavar="N", help="from this operation; those before keep their answers")
    rerun.add_argument("--fresh", action="store_true", help="under a new logical id: effects are applied again")
    return parser


if __name__ == "__main__":
    sys.exit(main())
