"""`holdfast up` without a Pulumi of one's own: the same program, driven through Pulumi's Automation API.

State is a file backend in the state directory. An operation that failed, or was interrupted at any point,
may be repeated or followed by `destroy`; `up` on what is up and healthy changes nothing.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pulumi.automation import CommandError, LocalWorkspace, Stack
from pulumi.automation import Deployment as StackState

from infra import config
from infra.engine.command import Command
from infra.engine.guard import Busy, clear_locks, end_providers, exclusively, pending_operations
from infra.engine.progress import Failure, Listener, OnProgress
from infra.engine.workspace import Workspace, stack_configuration, stacks
from infra.local.leftovers import leftovers
from infra.local.part import PARTS, TARGET
from infra.local.resources import LocalTarget
from infra.program import TargetUnavailable, main, target_of
from infra.state import deployment_directory, state_directory
from infra.toolchain import require
from infra.toolchain.pins import tool_named
from infra.topology import Settings

__all__ = ["Busy", "Deployment", "DeploymentError", "Outcome"]

_T = TypeVar("_T")


class DeploymentError(RuntimeError):
    """An operation failed; `failures` holds what each part said, `part` and `cause` are of the first."""

    def __init__(self, operation: str, failures: list[Failure], next_action: str) -> None:
        self.operation = operation
        self.failures = tuple(failures)
        self.part = failures[0].part if failures else ""
        self.cause = failures[0].cause if failures else ""
        self.next_action = next_action
        lines = [f"{failure.part or 'the deployment'}: {failure.cause}" for failure in failures]
        super().__init__("\n".join([f"`{operation}` failed", *lines, next_action]))


@dataclass(frozen=True)
class Outcome:
    """What an operation did, or, as a preview, would do."""

    changes: Mapping[str, str]
    """For each part: create, update, delete or same."""
    seconds: float
    outputs: Mapping[str, str] = field(default_factory=dict[str, str])
    unhealthy: Mapping[str, str] = field(default_factory=dict[str, str])
    """The parts that a look at them found dead, with what was wrong."""

    @property
    def changed(self) -> bool:
        """Whether anything was, or would be, different afterwards."""
        return any(operation != "same" for operation in self.changes.values())


class Deployment:
    """One stack in one state directory.

    `overrides` are configuration keys that take precedence over `Pulumi.<stack>.yaml` for this call; `target`
    stands in for the one that the stack names.
    """

    def __init__(
        self,
        stack: str = "local",
        overrides: Mapping[str, str] | None = None,
        state_dir: Path | str | None = None,
        target: LocalTarget | None = None,
    ) -> None:
        self.stack = stack
        self.state = state_directory(state_dir)
        self.directory = deployment_directory(stack, self.state)
        self._overrides = dict(overrides or {})
        self._target = target
        self._workspace = Workspace(self.state, stack)
        self._command: Command | None = None

    @property
    def exists(self) -> bool:
        """Whether Pulumi knows of this deployment, healthy or not."""
        return self._workspace.checkpoint.exists()

    def configuration(self) -> config.Configuration:
        """The stack's configuration with the overrides, or `ConfigError`; asks nobody and starts nothing."""
        return config.from_mapping(self._config(), name=self.stack, directory=self.directory)

    def up(self, on_progress: OnProgress | None = None) -> Outcome:
        """Brings everything up, repairs what is dead, and leaves alone what is as it should be."""
        listener = Listener(on_progress)
        self._validate()
        with self._operation("up", listener) as stack:
            started = time.monotonic()
            self._run(lambda: stack.up(refresh=True, color="never", on_event=listener, show_secrets=False))
            return self._outcome(listener, started, self._outputs(stack))

    def preview(self, on_progress: OnProgress | None = None) -> Outcome:
        """What `up` would do now."""
        listener = Listener(on_progress)
        self._validate()
        with self._operation("preview", listener) as stack:
            started = time.monotonic()
            self._run(lambda: stack.preview(refresh=True, color="never", on_event=listener))
            return self._outcome(listener, started, {})

    def refresh(self, on_progress: OnProgress | None = None) -> Outcome:
        """Looks at every part, and records which are dead."""
        listener = Listener(on_progress, only_looks=True)
        if not self.exists:
            return Outcome({}, 0.0)
        with self._operation("refresh", listener, configure=False) as stack:
            started = time.monotonic()
            self._run(lambda: stack.refresh(color="never", on_event=listener, show_secrets=False))
            return self._outcome(listener, started, self._outputs(stack))

    def destroy(self, on_progress: OnProgress | None = None) -> Outcome:
        """Stops and removes everything, then forgets the stack; where nothing is, it does nothing.

        Processes and files that are there without Pulumi knowing of them are removed too.
        """
        listener = Listener(on_progress)
        started = time.monotonic()
        if self.exists:
            with self._operation("destroy", listener, configure=False) as stack:
                self._run(lambda: stack.destroy(color="never", on_event=listener, show_secrets=False))
                self._run(lambda: stack.workspace.remove_stack(self.stack))
                self._workspace.forget()
        if leftovers(self.directory):
            with exclusively(self._workspace):
                self._remove_unrecorded(listener)
        return self._outcome(listener, started, {})

    def outputs(self) -> Mapping[str, str]:
        """The outputs of the last `up`; none if there was none."""
        if not self.exists:
            return {}
        return self._outputs(Stack.select(self.stack, self._open(configure=False)))

    def _remove_unrecorded(self, listener: Listener) -> None:
        target = importlib.import_module(self._target.target if self._target else TARGET)
        settings = Settings(name=self.stack, directory=self.directory)
        for part in reversed(PARTS):
            listener.say(f"removing what is left of {part}")
            target.remove(part, settings)
            listener.changes[part] = "delete"
        shutil.rmtree(self.directory, ignore_errors=True)

    def _config(self) -> dict[str, object]:
        try:
            base = dict(stack_configuration(self.stack))
        except KeyError:
            problem = config.Problem("stack", repr(self.stack), " or ".join(stacks()), "see Pulumi.local.yaml")
            raise config.ConfigError([problem]) from None
        return config.merged(base, self._overrides)

    def _validate(self) -> None:
        configuration = self.configuration()
        if configuration.target != "local":
            raise TargetUnavailable(configuration.target)
        target = self._target or target_of(configuration)
        target.check()

    def _open(self, *, configure: bool) -> LocalWorkspace:
        if self._command is None:
            pulumi = tool_named("pulumi")
            self._command = Command(require([pulumi.name])[pulumi.name], pulumi.version)
        program = functools.partial(main, self.state, self._target)
        return self._workspace.open(self._command, program, self._config() if configure else None)

    @contextlib.contextmanager
    def _operation(self, name: str, listener: Listener, *, configure: bool = True) -> Iterator[Stack]:
        """One exclusive operation on the stack; what an interrupted one left behind is cleared first."""
        with exclusively(self._workspace):
            clear_locks(self._workspace, listener.say)
            workspace = self._open(configure=configure)
            stack = (Stack.select if self.exists else Stack.create)(self.stack, workspace)
            if pending_operations(self._workspace):
                listener.say("clearing what an interrupted change left pending")
                _forget_pending(stack)
            try:
                yield stack
            except CommandError as error:
                raise self._error(name, listener, error) from error
            finally:
                end_providers(self._workspace)

    def _error(self, name: str, listener: Listener, error: CommandError) -> DeploymentError:
        again = {"destroy": "holdfast down"}.get(name, f"holdfast {name}")
        action = f"repeat `{again}`; `holdfast down` removes everything" if name != "destroy" else f"repeat `{again}`"
        failures = listener.failures or [Failure("", _last_lines(error))]
        return DeploymentError(again, failures, action)

    def _outcome(self, listener: Listener, started: float, outputs: Mapping[str, str]) -> Outcome:
        seconds = time.monotonic() - started
        return Outcome(dict(listener.changes), seconds, outputs, dict(listener.unhealthy))

    def _outputs(self, stack: Stack) -> Mapping[str, str]:
        return {name: str(output.value) for name, output in stack.outputs().items()}

    def _run(self, work: Callable[[], _T]) -> _T:
        """Runs Pulumi beside this thread: Ctrl-C lets the parts in progress end, a second one does not."""
        result: Future[_T] = Future()

        def run() -> None:
            try:
                result.set_result(work())
            except BaseException as error:
                result.set_exception(error)

        threading.Thread(target=run, name="pulumi").start()
        interrupted = False
        while not result.done():
            try:
                # Not `Thread.join`: an interrupt there makes the thread pass for ended.
                wait([result], timeout=0.1)
            except KeyboardInterrupt:
                interrupted = True
                if self._command is not None:
                    self._command.interrupt()
        if interrupted:
            raise KeyboardInterrupt
        return result.result()


def _forget_pending(stack: Stack) -> None:
    exported = stack.export_stack()
    known = {**(exported.deployment or {}), "pending_operations": []}
    stack.import_stack(StackState(version=exported.version, deployment=known))


def _last_lines(error: CommandError, count: int = 12) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return "\n".join(lines[-count:])
