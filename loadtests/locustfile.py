"""Locust's users of a deployment: `locust -f loadtests/locustfile.py`, with its page in the browser or `--headless`.

They work against the deployment in $HOLDFAST_STATE (by default that of this checkout), stack $HOLDFAST_STACK (by
default `local`): addresses, certificates and the token's file come from its manifest. The number of users is that of
the customers, each of whom starts a run every ten seconds; one supervisor and one clerk come with them.
"""

from __future__ import annotations

import os
import random
import threading
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, NoReturn

from holdfast.client import HoldfastClient
from locust import LoadTestShape, User, constant, events, task
from locust.env import Environment
from refund_desk.tickets import bundled_tickets, read_tickets

from infra.manifest import Manifest, NoManifest
from infra.state import deployment_directory
from loadtests.traffic.desk import Desk
from loadtests.traffic.entries import Book, Entry
from loadtests.traffic.shapes import PERIOD_SECONDS, SHAPES, Moment

BESIDES = 2
"""Users besides the customers: the supervisor and the clerk."""
SPAWNED_PER_SECOND = 100.0
FINISH_SECONDS = 10.0
"""What somebody who is at work gets to finish that."""


class FailedError(Exception):
    """How Locust is told of a kind of failure."""


class Load:
    """What the users of this process share while a load goes on."""

    desk: Desk | None = None
    client: HoldfastClient | None = None
    book: Book | None = None
    quitting = False


class Customer(User):
    """Starts a run every ten seconds from a random moment on, and doesn't wait for what comes of it."""

    def on_start(self) -> None:
        self._next = time.monotonic() + random.random() * PERIOD_SECONDS - PERIOD_SECONDS
        self.wait()

    def wait_time(self) -> float:
        self._next += PERIOD_SECONDS
        return max(0.0, self._next - time.monotonic())

    @task
    def file_a_ticket(self) -> None:
        if Load.desk is not None:
            Load.desk.begin_start()


class Supervisor(User):
    """Lets held runs go on, once the shape allows it."""

    fixed_count = 1
    wait_time = constant(1)

    @task
    def decide(self) -> None:
        shape = self.environment.shape_class
        if Load.desk is not None and isinstance(shape, Traffic) and shape.released:
            Load.desk.decide()


class Clerk(User):
    """Looks at the list of open runs."""

    fixed_count = 1
    wait_time = constant(1)

    @task
    def look(self) -> None:
        if Load.desk is not None:
            Load.desk.look_at_list()


class Traffic(LoadTestShape):
    """The shape that `--shape` names, up to the number of users and as long as the run time that Locust is given."""

    use_common_options = True

    def __init__(self) -> None:
        super().__init__()
        self.began = time.time()

    def reset_time(self) -> None:
        super().reset_time()
        self.began = time.time()

    @property
    def released(self) -> bool:
        """Whether held runs may go on."""
        chosen, seconds = SHAPES[self._option("shape")], self._option("run_time")
        return seconds is None or self.get_run_time() >= chosen.released_at(float(seconds))

    def tick(self) -> tuple[int, float] | None:
        seconds = self._option("run_time")
        at = self.get_run_time()
        if seconds is not None and at >= float(seconds):
            return None
        moved_at = Load.desk.moved_at if Load.desk is not None else None
        # Locust's page and its command line call it differently.
        customers = int(self._option("users") or self._option("num_users") or 1)
        moment = Moment(
            customers=customers,
            seconds=float(seconds) if seconds is not None else float("inf"),
            at=at,
            moved_at=None if moved_at is None else moved_at - self.began,
        )
        return SHAPES[self._option("shape")].customers(moment) + BESIDES, SPAWNED_PER_SECOND

    def _option(self, name: str) -> Any:
        assert self.runner is not None
        return getattr(self.runner.environment.parsed_options, name, None)


@events.init_command_line_parser.add_listener
def add_options(parser: ArgumentParser) -> None:
    """What Locust's own options don't say."""
    parser.set_defaults(stop_timeout=FINISH_SECONDS)
    shapes = "; ".join(f"{name}: {shape.what}" for name, shape in SHAPES.items())
    parser.add_argument("--shape", choices=list(SHAPES), default="steady", help=shapes)
    parser.add_argument("--book", default="", metavar="FILE", help="append each entry to FILE, as a line of JSON")
    parser.add_argument("--owner", type=int, default=0, metavar="PID", help="end when this parent process has")
    parser.add_argument("--prefix", default="", metavar="TEXT", help="how the runs' ids begin [default: by the time]")


@events.init.add_listener
def show_host(environment: Environment, **_: Any) -> None:
    """Show where the load goes, and refuse where there is no deployment."""
    environment.host = ", ".join(region.api for region in _manifest().regions.values())


@events.init.add_listener
def end_with_owner(environment: Environment, **_: Any) -> None:
    """Don't outlive whoever started this, however that ended."""
    owner = environment.parsed_options.owner if environment.parsed_options else 0

    def watch() -> None:
        while os.getppid() == owner:
            time.sleep(1)
        Load.quitting = True
        if environment.runner is not None:
            environment.runner.quit()

    if owner:
        threading.Thread(target=watch, name="owner", daemon=True).start()


@events.test_start.add_listener
def begin(environment: Environment, **_: Any) -> None:
    """Make the clients of both regions."""
    options, manifest = environment.parsed_options, _manifest()
    token = manifest.api_token_file.read_text(encoding="utf-8").strip()
    apis = {name: region.api for name, region in manifest.regions.items()}
    Load.client = HoldfastClient(apis, ca=manifest.ca, token=token)
    Load.book = Book(Path(options.book)) if options and options.book else None

    def tell(entry: Entry) -> None:
        if Load.book is not None:
            Load.book(entry)
        environment.events.request.fire(
            request_type="desk",
            name=entry.name,
            response_time=entry.seconds * 1000,
            response_length=0,
            exception=FailedError(entry.error) if entry.error is not None else None,
            start_time=entry.at,
            context={},
        )

    Load.desk = Desk(
        Load.client,
        [ticket.model_dump(mode="json", exclude_none=True) for ticket in read_tickets(bundled_tickets()).tickets],
        (options and options.prefix) or time.strftime("load-%m%d%H%M%S-", time.gmtime()),
        tell,
        held_every=SHAPES[options.shape if options else "steady"].held_every,
    )


@events.test_stop.add_listener
def end(environment: Environment, **_: Any) -> None:
    """Without a page nobody looks on: then wait for the runs that are open, unless Locust was told to quit."""
    if Load.desk is not None and environment.parsed_options and environment.parsed_options.headless:
        if not Load.quitting:
            Load.desk.drain()
        Load.desk.close()


@events.quitting.add_listener
def quit_now(**_: Any) -> None:
    """Don't wait any more."""
    Load.quitting = True


def _manifest() -> Manifest:
    directory = deployment_directory(os.environ.get("HOLDFAST_STACK", "local"), os.environ.get("HOLDFAST_STATE"))
    try:
        return Manifest.load(directory)
    except NoManifest as error:
        _refuse(str(error))


def _refuse(why: str) -> NoReturn:
    raise SystemExit(f"error: {why}")
