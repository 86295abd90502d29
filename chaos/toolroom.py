"""A tools' app in a region, behind an access policy, and who calls its tools: the policy's denials are what is tried.

Its sidecars are the region's own program, with identities that the region's Sentry gives them. Their state is their
own, and they are ended when everything was tried.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic_ai import Agent, FunctionToolset
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai_dapr import (
    DaprWorkflowAgentRunner,
    RemoteToolset,
    RunFailedError,
    ToolHost,
    WorkflowUnavailableError,
    access_policy,
)

from chaos.faults import NotInjectedError
from chaos.history import Intrusion
from chaos.impostors import PORTS, changed, free_ports
from infra.local.tokens import TokenIssuer
from infra.manifest import Manifest

TOOLS, CLERK, STRANGER = "holdfast-tools", "holdfast-clerk", "holdfast-stranger"
START_SECONDS, RUN_SECONDS, POLL_SECONDS = 20.0, 30.0, 0.1
ALLOWED, FORBIDDEN = "look_up", "refund"
_OF_AN_APP = ("--app-port=", "--app-protocol=", "--app-channel-address=")


def denied_calls(manifest: Manifest, region: str) -> list[Intrusion]:
    """A tool that the policy denies to its caller, and an allowed one that another app calls.

    The caller's allowed tool has to answer: a door at which nobody is home has not refused. Raises NotInjectedError.
    """
    with contextlib.ExitStack() as undo:
        place = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-toolroom-")))
        room = _Room(manifest, region, place)
        calls: list[str] = []
        toolset = _desk(calls)
        policy = access_policy(TOOLS, [CLERK], toolset, [ALLOWED])
        tools, clerk, stranger = (
            undo.enter_context(room.sidecar(app, resources))
            for app, resources in ((TOOLS, [policy]), (CLERK, []), (STRANGER, []))
        )
        host = ToolHost(toolset, port=tools, api_token=room.token)
        undo.callback(host.shutdown)
        host.start()
        by_clerk = _told(clerk, room.token, ALLOWED, FORBIDDEN)
        by_stranger = _told(stranger, room.token, ALLOWED)
    home = by_clerk.startswith("order 7 is on its way | ") and calls == [ALLOWED]
    door = f"tools' app of region {region}"
    return [
        Intrusion(
            name=name, door=door, expected=expected, observed=told[-400:], refused=home and told.endswith(expected)
        )
        for name, expected, told in (
            ("a tool that the policy denies", _denial(FORBIDDEN), by_clerk),
            ("an allowed tool, called by another app", _denial(ALLOWED), by_stranger),
        )
    ]


@dataclass(frozen=True)
class _Room:
    """Makes sidecars in a region, for apps that it does not have."""

    manifest: Manifest
    region: str
    place: Path

    @property
    def token(self) -> str:
        """What the API of every sidecar of the region asks for."""
        file = self.manifest.regions[self.region].directory / "config" / "dapr-api-token"
        return file.read_text(encoding="utf-8").strip()

    @contextlib.contextmanager
    def sidecar(self, app: str, resources: list[dict[str, Any]]) -> Iterator[int]:
        """The port at which the app's sidecar answers, with a state store of its own beside these resources."""
        own = self.place / app
        own.mkdir()
        for number, resource in enumerate([_state_store(self.place / f"{app}.db"), *resources]):
            (own / f"{number}.yaml").write_text(yaml.safe_dump(resource), encoding="utf-8")
        identity = self.place / f"{app}.token"
        identity.write_text(TokenIssuer(self.manifest.directory / "pki").token("public", "default", app))
        region = self.manifest.regions[self.region]
        supervised = yaml.safe_load((region.directory / "process-compose.yaml").read_text(encoding="utf-8"))
        honest = supervised["processes"][region.sidecars[0]]
        ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
        options = {"app-id": app, "resources-path": str(own), **ports}
        command = [changed(one, options) for one in honest["entrypoint"] if not one.startswith(_OF_AN_APP)]
        environment = dict(line.split("=", 1) for line in honest["environment"])
        environment |= {"DAPR_SENTRY_TOKEN_FILE": str(identity), "PATH": os.environ.get("PATH", "")}
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                self._await(app, ports["dapr-http-port"], process, log.fileno())
                yield int(ports["dapr-grpc-port"])
            finally:
                process.kill()
                process.wait(10)

    def _await(self, app: str, port: str, process: subprocess.Popen[bytes], log: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError, urllib.error.HTTPError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v1.0/healthz/outbound", timeout=1).close()
                return
            time.sleep(POLL_SECONDS)
        said = os.pread(log, 1_000_000, 0).decode(errors="replace")[-300:]
        raise NotInjectedError(f"the sidecar of {app} did not answer within {START_SECONDS:g} s: {said}")


def _desk(calls: list[str]) -> FunctionToolset[object]:
    toolset: FunctionToolset[object] = FunctionToolset(id="desk")

    @toolset.tool_plain
    def look_up(order: int) -> str:  # pyright: ignore[reportUnusedFunction]
        """The state of an order."""
        calls.append(ALLOWED)
        return f"order {order} is on its way"

    @toolset.tool_plain
    def refund(order: int) -> str:  # pyright: ignore[reportUnusedFunction]
        """Pay an order back."""
        calls.append(FORBIDDEN)
        return f"refunded order {order}"

    return toolset


def _told(port: int, token: str, *tools: str) -> str:
    """What an agent is told that calls these tools one after the other; or why it ended otherwise."""

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        told = [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
        if len(told) < len(tools):
            return ModelResponse(parts=[ToolCallPart(tools[len(told)], {"order": 7})])
        return ModelResponse(parts=[TextPart(" | ".join(str(part.content) for part in told))])

    remote = RemoteToolset(_desk([]), app_id=TOOLS, denied="model")
    agent: Agent[object, str] = Agent(FunctionModel(answer), name="clerk", toolsets=[remote])
    runner = DaprWorkflowAgentRunner(agent, port=port, api_token=token)
    try:
        runner.start()
        return runner.run_sync("go", timeout=RUN_SECONDS).output
    except (RunFailedError, TimeoutError, WorkflowUnavailableError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        runner.shutdown()


def _denial(tool: str) -> str:
    return f"The access policy of app '{TOOLS}' denies the tool '{tool}'."


def _state_store(file: Path) -> dict[str, Any]:
    metadata = {"connectionString": str(file), "actorStateStore": "true"}
    return {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Component",
        "metadata": {"name": "statestore"},
        "spec": {
            "type": "state.sqlite",
            "version": "v1",
            "metadata": [{"name": name, "value": value} for name, value in metadata.items()],
        },
    }
