"""Runs an experiment against the running deployment, or against one that is made for it and removed afterwards."""

from __future__ import annotations

import contextlib
import copy
import fcntl
import json
import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from chaoslib.experiment import run_experiment
from chaoslib.types import Journal, Strategy
from holdfast.progress import shown
from rich.console import Console
from rich.markup import escape

from chaos import people as people  # before an experiment begins, so that no step of it takes the time
from chaos import session as sessions
from chaos.experiment import Experiment
from chaos.plants import PLANTS, Plant
from chaos.report import Verdict, verdict_of, write_report
from infra.automation import Busy, Deployment
from infra.manifest import Manifest

DRILLS = ("region-loss", "worker-crash", "switchover")
"""The experiments with which everybody begins."""
LOG_BYTES = 2_000_000
CHAOS_LOGGER = "chaostoolkit"
"""The logger that Chaos Toolkit tells each step."""


@contextlib.contextmanager
def alone(state: Path) -> Generator[None]:
    """Holds the state directory for one drill at a time: two at once would judge each other's faults. Raises Busy."""
    state.mkdir(parents=True, exist_ok=True)
    directory = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(f"another drill runs in {state}; wait for its end, or use another --state") from error
        yield
    finally:
        os.close(directory)


@contextlib.contextmanager
def uninterrupted() -> Generator[None]:
    """Ctrl-C waits until the block has ended: what undoes an experiment is never left half-way."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: waiting.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if waiting:
        raise KeyboardInterrupt


class Drill:
    """A context in which drills can be run; at its end a deployment that it made is gone, unless it is to be kept."""

    def __init__(
        self,
        stack: str,
        state: Path | None,
        overrides: Mapping[str, str],
        plant: str | Plant | None,
        keep: bool,
        console: Console,
    ) -> None:
        self._plant: Plant | None = PLANTS[plant] if isinstance(plant, str) else plant
        self._keep, self._console = keep, console
        settings = dict(overrides)
        if self._plant is not None:
            # A bug never goes into a deployment that somebody uses.
            state = Deployment(stack, settings, state).state / "planted" / self._plant.name
            settings["environment"] = "PYTHONPATH"
        self._deployment = Deployment(stack, settings, state)
        self._reports = sessions.reports_directory(self._deployment.state)
        self._held = contextlib.ExitStack()
        self._made = False

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.enter_context(alone(self._deployment.state))
            if self._plant is not None or not self._deployment.exists:
                if not self._keep:
                    undo.callback(self._remove)
                self._made = True
                self._up()
            self._held = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._made and self._keep:
            self._console.print(f"kept in {self._deployment.directory}; `holdfast down` removes it", soft_wrap=True)
        self._held.close()

    def run(self, experiment: Experiment, runs: int) -> tuple[Verdict, Path]:
        """Run one experiment; returns its verdict and the folder of its report.

        Whatever happens, also an interrupt, what it put in force is taken back before this ends.
        """
        return self.judged(experiment.name, runs, lambda _: self._play(experiment))

    def judged(self, name: str, runs: int, play: Callable[[sessions.Session], Journal | None]) -> tuple[Verdict, Path]:
        """`run` for anything that acts on a session."""
        manifest = Manifest.load(self._deployment.directory)
        session = sessions.Session(manifest, runs=runs)
        if self._plant and self._plant.stalled:
            session.wait_in_doubt = _stalling(session.wait_in_doubt, manifest, self._plant.stalled)
        folder = self._reports / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{name}"
        folder.mkdir(parents=True)
        sessions.use(session)
        try:
            try:
                journal = play(session)
            finally:
                with uninterrupted():
                    session.lift()
            history = session.record(name)
            verdict = verdict_of(history, self._plant.name if self._plant else None)
        finally:
            sessions.use(None)
            session.close()
        (folder / "journal.json").write_text(json.dumps(journal, default=str, indent=1), encoding="utf-8")
        _copy_logs(manifest, folder / "logs")
        write_report(folder, history, verdict)
        return verdict, folder

    def wait_healthy(self, seconds: float = 120.0) -> None:
        """Return when the deployment is whole again. Raises TimeoutError."""
        session = sessions.Session(Manifest.load(self._deployment.directory))
        try:
            session.wait_healthy(seconds)
        finally:
            session.close()

    def repair(self) -> None:
        """Make the deployment whole again after something that could not be taken back. Raises TimeoutError."""
        self._up()
        self.wait_healthy()

    @property
    def state(self) -> Path:
        """The state directory, for what outlives a deployment."""
        return self._deployment.state

    def _play(self, experiment: Experiment) -> Journal:
        # What a bug has left behind need not be healthy again.
        strategy = Strategy.BEFORE_METHOD if self._plant else Strategy.DEFAULT
        with _Steps(self._console):
            journal = run_experiment(copy.deepcopy(experiment.document), strategy=strategy)
        if journal["status"] == "interrupted":
            # Chaos Toolkit then plays no rollback, and keeps the interrupt to itself.
            raise KeyboardInterrupt
        return journal

    def _remove(self) -> None:
        with shown(self._console) as listener:
            self._deployment.destroy(listener)

    def _up(self) -> None:
        if self._plant is None:
            with shown(self._console) as listener:
                self._deployment.up(listener)
            return
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = str(self._plant.folder)
        try:
            with shown(self._console) as listener:
                self._deployment.up(listener)
        finally:
            os.environ.pop("PYTHONPATH")
            if before is not None:
                os.environ["PYTHONPATH"] = before


class _Steps(logging.Handler):
    """Prints each step of the experiment when it begins."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console, self._began = console, time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.startswith(("Action:", "Probe:", "Steady state", "Rollback:")) or record.levelno >= logging.WARNING:
            self._console.print(
                f"[dim]{time.monotonic() - self._began:6.1f} s[/]  {escape(text)}", highlight=False, soft_wrap=True
            )

    def __enter__(self) -> None:
        logger = logging.getLogger(CHAOS_LOGGER)
        self._level, logger.propagate = logger.level, False
        self._handlers = list(logger.handlers)
        logger.handlers = [self]
        logger.setLevel(logging.INFO)

    def __exit__(self, *_: object) -> None:
        logger = logging.getLogger(CHAOS_LOGGER)
        logger.handlers = self._handlers
        logger.setLevel(self._level)


def _stalling(moment: Callable[[], set[str]], manifest: Manifest, seconds: float) -> Callable[..., set[str]]:
    """The moment, and then `seconds` in which nothing of region a's database reaches region b; nor does it later."""
    (link,) = [one for one in manifest.wan.links if (one.source, one.target, one.line) == ("b", "a", "postgres")]

    def strike(_: float = 0.0) -> set[str]:
        moment()
        url = f"{manifest.wan.toxiproxy}/proxies/{link.name}/toxics"
        toxic = {"type": "timeout", "stream": "downstream", "attributes": {"timeout": 0}}
        httpx.post(url, json=toxic, timeout=5, trust_env=False).raise_for_status()
        # What is done and acknowledged now is what is lost.
        time.sleep(seconds)
        return set()

    return strike


def _copy_logs(manifest: Manifest, folder: Path) -> None:
    """The last part of every process's log, of every site."""
    for logs in sorted(manifest.directory.glob("*/logs")):
        for log in sorted(logs.glob("*.log")):
            target = folder / logs.parent.name / log.name
            target.parent.mkdir(parents=True, exist_ok=True)
            with log.open("rb") as source, target.open("wb") as copy:
                source.seek(max(0, log.stat().st_size - LOG_BYTES))
                shutil.copyfileobj(source, copy)
