"""Executes agent runs under one epoch: `python -m service.worker --config FILE`.

A worker imports everything first and then waits, warm, until its region is active. It serves exactly one epoch:
when the role or the epoch changes it exits at once, and the supervisor starts a warm one.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from opentelemetry import trace
from pydantic import JsonValue
from pydantic_ai_dapr import Attempt, DaprWorkflowAgentRunner, current_operation
from serving import ConfigurationFile, configuration_of, log_to_stderr, process_registry, read_secret
from serving.tracing import Traces, provider_for

from service.app_channel import serve_app_channel
from service.hosting import Effects, EffectsTarget, load_hosted
from service.meters import StepMeters
from service.role import Role, RoleFile, told

log = logging.getLogger(__name__)

EPOCH_IS_OVER = 75
SIDECAR_IS_GONE = 76
STOOD_STILL = 77
STOPPED = 0
LOOK_EVERY_SECONDS = 0.05
SIDECAR_MISSING_AFTER_SECONDS = 3.0
STOOD_STILL_SECONDS = 2.5
"""No other region becomes active in less time. Who has looked at nothing for longer may be no longer the one."""
BUSY_SHARE = 0.1
"""Who has computed for this share of that time was only slow: a process that is stopped computes nothing."""


class Sidecar(ConfigurationFile):
    """The worker's own daprd, and where it asks its app: all on the loopback interface, with one token for both."""

    grpc_port: int
    http_port: int
    app_port: int
    token_file: Path


class WorkerConfig(ConfigurationFile):
    """The worker's configuration file."""

    region: str
    name: str
    agent: str
    model: str
    model_latency_seconds: float = 0.0
    max_iterations: int = 25
    dapr: Sidecar
    role_file: Path
    attempts_file: Path
    payments: EffectsTarget
    model_provider: EffectsTarget | None = None
    kept_runs: int = 256
    traces: Traces | None = None


class AttemptLog:
    """Appends one JSON line per start and end of an operation's execution: evidence of who did what when.

    Every start has its end, also where the worker leaves in the middle; only a killed process leaves one without.
    """

    def __init__(self, config: WorkerConfig, epoch: int) -> None:
        config.attempts_file.parent.mkdir(parents=True, exist_ok=True)
        self._file = config.attempts_file.open("a", encoding="utf-8", buffering=1)
        self._lock = threading.Lock()
        self._open: dict[tuple[str, int], Attempt] = {}
        self._common = {"region": config.region, "epoch": epoch, "worker": config.name, "pid": os.getpid()}

    def __call__(self, attempt: Attempt) -> None:
        with self._lock:
            self._write(attempt)
            if attempt.phase == "ended":
                self._open.pop((attempt.key, attempt.attempt), None)
            elif not attempt.joined:
                self._open[attempt.key, attempt.attempt] = attempt

    def abandon(self) -> None:
        """Note that what is being executed goes no further. The lock stays taken: nothing is written afterwards."""
        self._lock.acquire()
        for attempt in self._open.values():
            self._write(replace(attempt, phase="ended", at=time.time()), outcome="abandoned")

    def _write(self, attempt: Attempt, **changes: str) -> None:
        self._file.write(json.dumps(asdict(attempt) | self._common | changes) + "\n")


class Pulse:
    """Tells whether this process stood still, frozen with its region or alone: its role may be another's by now.

    One that has too much to do did not stand still: it would leave what it does to others, who then have more to do.
    """

    def __init__(self) -> None:
        self._last = time.monotonic(), time.process_time()

    def beat(self) -> None:
        """Say that it does not."""
        self._last = time.monotonic(), time.process_time()

    def stood_still(self) -> bool:
        """Whether the last beat is too long ago, and nothing was computed since."""
        at, computed = self._last
        passed = time.monotonic() - at
        return passed > STOOD_STILL_SECONDS and time.process_time() - computed < passed * BUSY_SHARE


def wait_for_activation(role_file: RoleFile) -> Role:
    """Return once the region is active or activating."""
    while True:
        role = role_file.read()
        if role is not None and role.role != "standby":
            return role
        time.sleep(LOOK_EVERY_SECONDS)


def sidecar_answers(sidecar: Sidecar) -> bool:
    """Whether daprd serves its API. Any answer counts: it may hold its health until this worker connects."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{sidecar.http_port}/v1.0/healthz/outbound", timeout=1):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, http.client.HTTPException):
        return False


def watch(
    role_file: RoleFile, serving: Role, alive: Callable[[], bool], leave: Callable[[int], None], pulse: Pulse
) -> None:
    """Leave at once when the epoch is over, or may be as the process stood still, or the sidecar is gone for good."""
    last_alive, look_at_sidecar = time.monotonic(), 0.0
    while True:
        if pulse.stood_still():
            log.warning("stood still for more than %g s, leaving", STOOD_STILL_SECONDS)
            leave(STOOD_STILL)
            return
        pulse.beat()
        role = role_file.read()
        if role is None or role.role == "standby" or role.epoch != serving.epoch:
            log.warning("epoch %s is over, leaving", serving.epoch)
            leave(EPOCH_IS_OVER)
            return
        now = time.monotonic()
        if now >= look_at_sidecar:
            look_at_sidecar = now + 1.0
            if alive():
                last_alive = now
            elif now - last_alive > SIDECAR_MISSING_AFTER_SECONDS:
                log.warning("the sidecar has been gone for %.0f s, leaving", now - last_alive)
                leave(SIDECAR_IS_GONE)
                return
        time.sleep(LOOK_EVERY_SECONDS)


def running() -> dict[str, JsonValue]:
    """What is being executed where something is logged: run, step, attempt, and the trace that it belongs to."""
    about: dict[str, JsonValue] = {}
    with contextlib.suppress(RuntimeError):
        operation = current_operation()
        about = {"run_id": operation.run_id, "step": operation.ordinal, "attempt": operation.attempt}
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        about |= {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
    return about


def instrument(config: WorkerConfig, traces: Traces, epoch: int) -> None:
    """Every agent reports PydanticAI's own spans, without what prompts, answers, arguments and results say."""
    from pydantic_ai import Agent, InstrumentationSettings

    provider = provider_for(traces, "worker", region=config.region, worker=config.name, epoch=epoch)
    Agent.instrument_all(InstrumentationSettings(tracer_provider=provider, include_content=False))


def main(arguments: list[str]) -> int:
    """Wait for activation, then execute runs until the epoch is over."""
    config = configuration_of(WorkerConfig, "service.worker", arguments)
    meters, role_file = StepMeters(process_registry()), RoleFile(config.role_file)
    log_to_stderr(lambda: told(config.region, role_file.read()) | running())
    os.environ["DAPR_API_TOKEN"] = token = read_secret(config.dapr.token_file)
    serve_app_channel(config.dapr.app_port, token, meters.text)
    hosted = load_hosted(config.agent)
    hosted.warm_up()

    log.info("warm, waiting for the region to become active")
    role = wait_for_activation(role_file)
    effects = Effects(
        **config.payments.model_dump(),
        region=config.region,
        epoch=role.epoch,
        worker=config.name,
        model_provider=config.model_provider,
    )
    agent = hosted.build_agent(model=config.model, model_latency_seconds=config.model_latency_seconds, effects=effects)
    while not sidecar_answers(config.dapr):
        current = role_file.read()
        if current is None or current.role == "standby" or current.epoch != role.epoch:
            return EPOCH_IS_OVER
        time.sleep(LOOK_EVERY_SECONDS)
    if config.traces is not None:
        instrument(config, config.traces, role.epoch)
    attempts, pulse = AttemptLog(config, role.epoch), Pulse()

    def leave(code: int) -> None:
        try:
            attempts.abandon()
        finally:
            os._exit(code)

    def note(attempt: Attempt) -> None:
        # What waited for a frozen process begins before anybody could tell it that it is too late.
        if attempt.phase == "started" and pulse.stood_still():
            leave(STOOD_STILL)
        attempts(attempt)
        meters(attempt)

    runner = DaprWorkflowAgentRunner(
        name=hosted.name,
        agent=agent,
        max_iterations=config.max_iterations,
        host="127.0.0.1",
        port=config.dapr.grpc_port,
        api_token=token,
        kept_runs=config.kept_runs,
        on_attempt=note,
    )
    # What is in hand is given to other workers as soon as the sidecar leaves, which is stopped at the same time.
    signal.signal(signal.SIGTERM, lambda number, frame: leave(STOPPED))
    runner.start()
    meters.epoch.set(role.epoch)
    log.info("executing runs in epoch %s", role.epoch)
    watch(role_file, role, lambda: sidecar_answers(config.dapr), leave, pulse)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
