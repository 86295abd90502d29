"""Random mode: a seed composes faults into a schedule, and the same seed composes the same one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from chaos.experiment import EXTENSION, Experiment, read

LONGEST_PAUSE = 6.0
TAIL_SECONDS = 60.0


@dataclass(frozen=True)
class Choice:
    """A fault that the nemesis may choose, where, how often beside the others, and for how long (seconds)."""

    fault: str
    places: tuple[str, ...]
    weight: int
    shortest: float
    longest: float


CHOICES = (
    Choice("worker-crash", ("active",), 4, 1, 2),
    Choice("kill-sidecars", ("active",), 3, 1, 3),
    Choice("kill-scheduler", ("active",), 2, 1, 3),
    Choice("kill-placement", ("active",), 2, 1, 3),
    Choice("kill-sentry", ("active",), 1, 1, 3),
    Choice("kill-region-agent", ("active", "standby"), 2, 1, 3),
    Choice("kill-api", ("active",), 1, 1, 3),
    Choice("kill-patroni", ("active", "standby"), 2, 1, 3),
    Choice("kill-lease-store", ("a", "b", "witness"), 2, 1, 3),
    Choice("kill-database", ("active", "standby"), 2, 1, 3),
    Choice("region-loss", ("active", "standby"), 2, 8, 15),
    Choice("witness-loss", ("witness",), 1, 3, 8),
    Choice("freeze-worker", ("active",), 3, 2, 12),
    Choice("freeze-database", ("active", "standby"), 2, 2, 12),
    Choice("freeze-region", ("active", "standby"), 2, 2, 15),
    Choice("isolate", ("active", "standby", "witness"), 2, 3, 15),
    Choice("isolate-silently", ("active", "standby"), 2, 3, 15),
    Choice("mute", ("active", "standby"), 1, 3, 12),
    Choice("deafen", ("active", "standby"), 1, 3, 12),
    Choice("split", ("active",), 2, 3, 15),
    Choice("latency-60", ("active",), 2, 4, 12),
    Choice("stall-replication", ("active",), 1, 2, 8),
    Choice("reset-sessions", ("active",), 1, 1, 1),
    Choice("move-lease-leader", ("active",), 1, 1, 1),
    Choice("switchover", ("standby",), 1, 1, 2),
)


@dataclass(frozen=True)
class Step:
    """A fault that is put in force `at` seconds after the first, and taken back `seconds` later."""

    at: float
    fault: str
    where: str
    seconds: float


def schedule(seed: int, seconds: float) -> list[Step]:
    """The faults that the seed composes for so long: one after the other, each lifted before the next."""
    chance, at = random.Random(seed), 0.0
    steps: list[Step] = []
    weights = [choice.weight for choice in CHOICES]
    while True:
        choice = chance.choices(CHOICES, weights)[0]
        held = round(chance.uniform(choice.shortest, choice.longest), 1)
        place = chance.choice(choice.places)
        pause = round(chance.uniform(0.5, LONGEST_PAUSE), 1)
        if at + held > seconds:
            return steps
        steps.append(Step(round(at, 1), choice.fault, place, held))
        at += held + pause


def experiment(seed: int, seconds: float) -> Experiment:
    """The schedule as an experiment, with the steady state and the load of the others."""
    document = dict(read("region-loss").document)
    begin = [step for step in document["method"] if step["name"] in ("begin-load", "runs-are-in-flight")]
    document |= {
        "title": f"What the seed {seed} composes loses no agent run",
        "description": f"Random faults for {seconds:g} s. The same seed composes the same ones.",
        "tags": ["nemesis"],
        "method": [*begin, *_method(schedule(seed, seconds)), *_end()],
        "extensions": [{"name": EXTENSION, "seconds": seconds + TAIL_SECONDS}],
    }
    faults = tuple(dict.fromkeys(step.fault for step in schedule(seed, seconds)))
    return Experiment(f"nemesis-{seed}", document["title"], ("nemesis",), faults, seconds + TAIL_SECONDS, document)


def _method(steps: list[Step]) -> Iterator[dict[str, Any]]:
    over = 0.0
    for number, step in enumerate(steps, 1):
        inject = _action(f"{number}-{step.fault}", "inject", {"fault": step.fault, "where": step.where})
        yield inject | {"pauses": {"before": round(step.at - over, 1), "after": step.seconds}}
        yield _action(f"{number}-lift", "lift", {})
        over = step.at + step.seconds


def _end() -> Iterator[dict[str, Any]]:
    provider = {"type": "python", "module": "chaos.probes"}
    healthy = {"func": "deployment_is_healthy", "arguments": {"seconds": 120}}
    yield {"name": "deployment-is-healthy", "type": "probe", "provider": provider | healthy}
    yield {"name": "every-run-has-ended", "type": "probe", "provider": provider | {"func": "every_run_has_ended"}}


def _action(name: str, func: str, arguments: dict[str, Any]) -> dict[str, Any]:
    provider = {"type": "python", "module": "chaos.actions", "func": func, "arguments": arguments}
    return {"name": name, "type": "action", "provider": provider}
