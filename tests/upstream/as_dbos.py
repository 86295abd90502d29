"""A pytest plugin that gives PydanticAI's tests `DaprDurability` where they ask for DBOS.

A workflow of theirs is a `DurableAgents.run` on the engine in memory of `tests.support`, with everything through JSON.
What of DBOS's own has no counterpart here is a `Stub`: tests that look into it fail, and are told apart by their names.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
import threading
import time
import types
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import dbos
from pydantic_ai.agent import WrapperAgent
from pydantic_ai.capabilities.abstract import leaf_capabilities
from pydantic_ai_dapr import DaprDurability, DurableAgents, Retry, current_operation
from pydantic_ai_dapr.approvals import ASK_ACTIVITY
from pydantic_ai_dapr.confirmation import Task
from pydantic_ai_dapr.host import Envelope, OperationBody
from pydantic_ai_dapr.journal import Journal
from pydantic_ai_dapr.payloads import Payloads
from pydantic_ai_dapr.run import current_run

from tests.support.durable_agents import Values, Worker
from tests.support.workflow_engine import Engine, Event, activity_context
from tests.upstream.overrides import workflow_raises

QUIET_SECONDS = 20.0
"""How long a workflow may wait for an event from outside."""
next_id: ContextVar[str | None] = ContextVar("next_id", default=None)


class Durability(DaprDurability):
    """`DaprDurability` with DBOS's arguments; what is bound to an agent can be found by its activities."""

    bound: list[DaprDurability] = []  # noqa: RUF012  # one list for the process

    def __init__(self, *, models: Any = None, event_stream_handler: Any = None, name: str | None = None, **_: Any):
        retry = Retry(first_seconds=0.01)
        super().__init__(models=models, event_stream_handler=event_stream_handler, name=name, retry=retry)

    def for_agent(self, agent: Any) -> Any:
        found = super().for_agent(agent)
        leaf = next(one for one in leaf_capabilities(found) if isinstance(one, DaprDurability))
        if not any(one is leaf for one in self.bound):
            self.bound.append(leaf)
        return found

    def __class_getitem__(cls, item: Any) -> Any:
        return cls


class Run:
    """A workflow on an engine of its own, with a worker of its own."""

    all: dict[str, Run] = {}  # noqa: RUF012  # one table for the process

    def __init__(self, main: Callable[[], Any], instance_id: str | None = None) -> None:
        values = Values()
        agents = DurableAgents([], port=1)
        agents.journal = Journal(Payloads(values), lambda instance_id: [])
        self.engine = Engine(lambda ctx: agents.run(ctx, main), instance_id or next_id.get() or str(uuid.uuid4()))
        self.worker = Worker(agents, self.engine, values)
        self.all[self.engine.instance_id] = self
        self._arrived, self._outside = threading.Condition(), list[Event]()
        self._end: dict[str, Any] = {}
        for durability in Durability.bound:
            with suppress(Exception):  # said again where it is used
                durability.bind_toolsets()
        self._thread = threading.Thread(target=self._to_its_end, daemon=True)
        self._thread.start()

    def result(self) -> Any:
        self._thread.join()
        if "error" in self._end:
            raise self._end["error"]
        return self._end["value"]

    @property
    def status(self) -> str:
        return "PENDING" if self._thread.is_alive() else "SUCCESS" if "value" in self._end else "ERROR"

    def raise_event(self, name: str, value: Any) -> None:
        with self._arrived:
            self._outside.append(Event("raised", name=name, value=value))
            self._arrived.notify_all()

    def steps(self) -> list[dict[str, str]]:
        return [{"function_name": event.name} for event in self.engine.history if event.kind == "scheduled"]

    def _to_its_end(self) -> None:
        try:
            self._end["value"] = self._run()
        except BaseException as error:
            self._end["error"] = error
        finally:
            self.worker.stop()

    def _run(self) -> Any:
        self.engine.turn()
        while not self.engine.ended:
            for number in list(self.engine.wakeups):
                self.engine.serve(number, self._serve)
            with self._arrived:
                self._arrived.wait_for(lambda: self.engine.inbox or self._outside, QUIET_SECONDS)
                self.engine.inbox += self._outside
                self._outside.clear()
            assert self.engine.inbox, f"nothing happened for {QUIET_SECONDS:g} s, and the workflow waits"
            self.engine.turn()
        return self.engine.result

    def _serve(self, name: str, value: Any) -> Any:
        if name == ASK_ACTIVITY:
            return value
        backends = [one.get_durable_operation_backend() for one in reversed(Durability.bound)]
        backend = next(one for one in backends if name in one.activities)
        backend.executor = _Executor()
        task = next(event for event in self.engine.history if event.value is value)
        context = activity_context(self.engine.instance_id, task)
        return json.loads(json.dumps(backend.activities[name](context, json.loads(json.dumps(value)))))


class _Executor:
    """Sends each activity to the worker of its workflow."""

    def handle(self, task: Task, delivered: Envelope, body: OperationBody) -> Envelope:
        return Run.all[task.instance_id].worker.handle(task, delivered, body)

    async def expand(self, instance_id: str, ordinal: int, wire: Envelope) -> Envelope:
        return await Run.all[instance_id].worker.expand(instance_id, ordinal, wire)


class DBOSAgent(WrapperAgent[Any, Any]):
    """An agent each of whose runs is a workflow; what is wrong with one that a module makes is said when it is used."""

    def __init__(self, wrapped: Any, *, name: str | None = None, event_stream_handler: Any = None, **_: Any) -> None:
        super().__init__(wrapped)
        self._own_name, self._wrong = name, None
        try:
            durability = Durability(name=name or wrapped.name, event_stream_handler=event_stream_handler)
            self._durability = durability.for_agent(wrapped)
        except Exception as error:
            if sys._getframe(1).f_code.co_name != "<module>":
                raise
            self._wrong = error

    @property
    def name(self) -> str | None:
        return self._own_name or self.wrapped.name

    @name.setter
    def name(self, value: str | None) -> None:
        self._own_name = value

    async def run(self, *args: Any, **options: Any) -> Any:
        options = self._durable(options)
        if current_run.get() is not None:
            return await self.wrapped.run(*args, **options)
        return await asyncio.to_thread(Run(lambda: self.wrapped.run(*args, **options)).result)

    def run_sync(self, *args: Any, **options: Any) -> Any:
        options = self._durable(options)
        if current_run.get() is not None:
            return self.wrapped.run_sync(*args, **options)
        return Run(lambda: self.wrapped.run(*args, **options)).result()

    def iter(self, *args: Any, **options: Any) -> Any:
        return self.wrapped.iter(*args, **self._durable(options))

    def _durable(self, options: dict[str, Any]) -> dict[str, Any]:
        if self._wrong is not None:
            raise self._wrong
        return options | {"capabilities": [*(options.get("capabilities") or []), self._durability]}


class _Ids(type):
    @property
    def workflow_id(cls) -> str | None:
        run = current_run.get()
        return run.instance_id if run else None

    @property
    def step_id(cls) -> int | None:
        try:
            return current_operation().ordinal
        except RuntimeError:
            return None


class DBOS(metaclass=_Ids):
    """What the tests use of DBOS itself."""

    _events: dict[tuple[str | None, str], Any] = {}  # noqa: RUF012  # one table for the process

    def __init__(self, *_: Any, **__: Any) -> None:
        """It needs no configuration."""

    launch = destroy = staticmethod(lambda *_, **__: None)
    step = staticmethod(lambda *_, **__: lambda function: function)

    @staticmethod
    def workflow(*_: Any, **__: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            def begun(*args: Any, **options: Any) -> Run:
                async def main() -> Any:
                    value = function(*args, **options)
                    return await value if inspect.isawaitable(value) else value

                return Run(main)

            async def call(*args: Any, **options: Any) -> Any:
                if current_run.get() is not None:
                    return await function(*args, **options)
                return await asyncio.to_thread(begun(*args, **options).result)

            def call_sync(*args: Any, **options: Any) -> Any:
                inside = current_run.get() is not None
                return function(*args, **options) if inside else begun(*args, **options).result()

            made: Any = call if inspect.iscoroutinefunction(function) else call_sync
            made.begun = begun
            return made

        return decorate

    @staticmethod
    def start_workflow(workflow: Any, *args: Any, **options: Any) -> Any:
        run: Run = workflow.begun(*args, **options)
        status = lambda: types.SimpleNamespace(status=run.status)  # noqa: E731
        made = types.SimpleNamespace(workflow_id=run.engine.instance_id, get_result=run.result, get_status=status)
        if inspect.iscoroutinefunction(workflow):
            made.get_result = lambda **_: asyncio.to_thread(run.result)
            made.get_status = lambda: asyncio.to_thread(status)
        return made

    @staticmethod
    async def start_workflow_async(workflow: Any, *args: Any, **options: Any) -> Any:
        return DBOS.start_workflow(workflow, *args, **options)

    @classmethod
    def set_event(cls, key: str, value: Any) -> None:
        cls._events[cls.workflow_id, key] = value

    @classmethod
    async def set_event_async(cls, key: str, value: Any) -> None:
        cls.set_event(key, value)

    @classmethod
    def get_event(cls, workflow_id: str, key: str, timeout_seconds: float = 1) -> Any:
        deadline = time.monotonic() + timeout_seconds
        while (workflow_id, key) not in cls._events and time.monotonic() < deadline:
            time.sleep(0.02)
        return cls._events.get((workflow_id, key))

    @classmethod
    async def get_event_async(cls, *args: Any, **options: Any) -> Any:
        return await asyncio.to_thread(lambda: cls.get_event(*args, **options))

    @staticmethod
    async def recv_async(topic: str, timeout_seconds: float = 30) -> Any:
        run = current_run.get()
        assert run is not None
        number = run.notes[topic] = run.notes.get(topic, 0) + 1
        return await run.signal(topic if number == 1 else f"{topic}#{number}")

    @staticmethod
    def send(workflow_id: str, value: Any, topic: str) -> None:
        Run.all[workflow_id].raise_event(topic, value)

    @classmethod
    async def send_async(cls, workflow_id: str, value: Any, topic: str) -> None:
        cls.send(workflow_id, value, topic)

    def list_workflow_steps(self, workflow_id: str) -> list[dict[str, str]]:
        return Run.all[workflow_id].steps()

    async def list_workflow_steps_async(self, workflow_id: str) -> list[dict[str, str]]:
        return self.list_workflow_steps(workflow_id)


@contextmanager
def set_workflow_id(workflow_id: str) -> Iterator[None]:
    """The next workflow has this id."""
    token = next_id.set(workflow_id)
    try:
        yield
    finally:
        next_id.reset(token)


class Stub:
    """Something of another integration's own, or of another version's, that isn't here."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Stub:
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub(f"{self._name}.{name}")

    def __call__(self, *_: Any, **__: Any) -> Stub:
        return self

    def __getitem__(self, item: Any) -> Stub:
        return self


def allow_any(module: str) -> types.ModuleType:
    """Whatever is imported from the module, there is something."""
    try:
        made = importlib.import_module(module)
    except ImportError:
        made = sys.modules[module] = types.ModuleType(module)

    def find(name: str) -> Stub:
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub(f"{module}.{name}")

    made.__getattr__ = find  # type: ignore[method-assign]
    return made


def pytest_configure(config: Any) -> None:
    """What the tests import is here, whichever version they are of; with `--baseline` it is DBOS's own."""
    parts = ("", "._dynamic_toolset", "._mcp_toolset", "._model")
    ours, *_ = [allow_any(f"pydantic_ai.durable_exec.dbos{part}") for part in parts]
    allow_any("pydantic_ai.durable_exec._toolset")
    if not config.getoption("--baseline"):
        vars(ours).update(DBOSDurability=Durability, DBOSAgent=DBOSAgent)
        vars(dbos).update(DBOS=DBOS, SetWorkflowID=set_workflow_id)


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Errors are compared but for the words by which an engine calls itself."""
    if not config.getoption("--baseline"):
        for item in items:
            item.module.workflow_raises = workflow_raises


def pytest_addoption(parser: Any) -> None:
    parser.addoption("--baseline", action="store_true", help="run the tests on DBOS itself")
