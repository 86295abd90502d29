"""Faults of processes: gone, frozen, stopped, and coming back."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from pydantic import JsonValue

from chaos.faults.target import Ability, Moment, NotInjectedError, Part, Place, Struck, Target, at_once, over

BUSY_SECONDS = 20.0
LOOP_SECONDS = 12.0
ROLL_SECONDS = 45.0
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Kill:
    """SIGKILL to every process of a part; its supervisor starts it again."""

    name: str
    does: str
    part: Part
    in_doubt: bool = False
    needs: frozenset[Ability] = frozenset({"kill"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        struck = target.kill(place, self.part, moment=moment if self.in_doubt else at_once)
        # Nobody is left at the place who would start it again.
        return struck if self.part == "everything" else over(struck)

    def lift(self, target: Target, place: Place) -> None:
        target.start(place, self.part)


@dataclass(frozen=True)
class KillTogether:
    """SIGKILL to several parts, one right after the other."""

    name: str
    does: str
    parts: tuple[tuple[Place | None, Part], ...]
    """Where and what; no place is the place of the fault."""
    stays_down: bool = False
    in_doubt: bool = False
    needs: frozenset[Ability] = frozenset({"kill", "stop"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        moments = [moment if self.in_doubt else at_once, *[at_once] * (len(self.parts) - 1)]
        struck = [
            target.kill(where or place, part, moment=when)
            for (where, part), when in zip(self.parts, moments, strict=True)
        ]
        if self.stays_down:
            struck += [target.stop(where or place, part) for where, part in self.parts]
            return together(struck)
        return over(together(struck))

    def lift(self, target: Target, place: Place) -> None:
        for where, part in self.parts:
            target.start(where or place, part)


@dataclass(frozen=True)
class Freeze:
    """SIGSTOP to every process of a part: it neither works nor closes its connections, and later goes on."""

    name: str
    does: str
    part: Part
    one: bool = False
    """Only one process of the part; a worker in the middle of an effect where it is seen in one."""
    in_doubt: bool = False
    needs: frozenset[Ability] = frozenset({"freeze"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        when = moment if self.in_doubt else at_once
        if not self.one:
            struck = target.freeze(place, self.part, moment=when)
            return replace(struck, cut_off=[place] if self.part == "everything" else [])
        running = target.running(place, self.part)
        if not running:
            raise NotInjectedError(f"no {self.part} runs at {place}")
        one = min(running)
        return target.freeze(place, self.part, {one}, moment=_of(one, when))

    def lift(self, target: Target, place: Place) -> None:
        target.resume(place, self.part)


@dataclass(frozen=True)
class Stop:
    """A clean stop, as an operator's; the part stays down until the fault is lifted."""

    name: str
    does: str
    part: Part
    in_doubt: bool = False
    needs: frozenset[Ability] = frozenset({"stop"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        return target.stop(place, self.part)

    def lift(self, target: Target, place: Place) -> None:
        target.start(place, self.part)


@dataclass(frozen=True)
class WorkerCrash:
    """SIGKILL to the worker in the middle of the most operations, as soon as one of them is an effect."""

    name: str = "worker-crash"
    does: str = "The busiest worker is killed in the middle of an operation: of an effect, where one is seen"
    in_doubt: bool = True
    needs: frozenset[Ability] = frozenset({"kill"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        deadline = time.monotonic() + BUSY_SECONDS
        while time.monotonic() < deadline:
            workers, busy = target.running(place, "worker"), target.in_hand()
            by_work = {name: len(busy.get(pid, ())) for name, pid in workers.items()}
            victim = max(by_work, key=lambda name: by_work[name], default=None)
            if victim is not None and by_work[victim]:
                struck = target.kill(place, "worker", {victim}, moment=_of(victim, moment))
                if not struck.killed:
                    continue  # It was replaced while the moment was awaited.
                cut = {one for pid in struck.killed for one in target.in_hand().get(pid, ())}
                in_progress: list[JsonValue] = [*sorted(cut)]
                evidence = {"worker": victim, "in-progress": in_progress} | struck.evidence
                return over(replace(struck, evidence=evidence, proven=struck.proven and bool(cut)))
            time.sleep(POLL_SECONDS)
        raise NotInjectedError(f"no worker of {place} was in the middle of an operation for {BUSY_SECONDS:g} s")

    def lift(self, target: Target, place: Place) -> None:
        target.start(place, "worker")


@dataclass(frozen=True)
class WorkerCrashAfterStep:
    """SIGKILL to a worker as soon as it has ended an operation."""

    name: str = "worker-crash-after-step"
    does: str = "One worker is killed as soon as it has ended an operation"
    in_doubt: bool = False
    needs: frozenset[Ability] = frozenset({"kill"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        deadline, before = time.monotonic() + BUSY_SECONDS, target.in_hand()
        workers = target.running(place, "worker")
        while time.monotonic() < deadline:
            now = target.in_hand()
            for name, pid in workers.items():
                if ended := before.get(pid, set[str]()) - now.get(pid, set[str]()):
                    struck = target.kill(place, "worker", {name})
                    told: list[JsonValue] = [*sorted(ended)]
                    return over(replace(struck, evidence={"worker": name, "just-ended": told} | struck.evidence))
            before = now
        raise NotInjectedError(f"no worker of {place} ended an operation for {BUSY_SECONDS:g} s")

    def lift(self, target: Target, place: Place) -> None:
        target.start(place, "worker")


@dataclass(frozen=True)
class Stutter:
    """Everything stands still for a while, again and again; a seed chose the moments."""

    name: str = "stutter"
    does: str = "Every process of the region stands still for 0.5 to 6 s, five times"
    times: int = 5
    seed: int = 11
    in_doubt: bool = False
    needs: frozenset[Ability] = frozenset({"freeze"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        chance, struck = random.Random(self.seed), list[Struck]()
        for _ in range(self.times):
            struck.append(target.freeze(place, "everything"))
            # The rhythm is the fault: this is no wait for something.
            time.sleep(chance.uniform(0.5, 6.0))
            target.resume(place, "everything")
            time.sleep(chance.uniform(0.2, 2.0))
        whole = together(struck)
        shown = sum(one.proven for one in struck)
        return over(
            replace(whole, evidence={"freezes": len(struck), "proven": shown}, cut_off=[place], strikes=len(struck))
        )

    def lift(self, target: Target, place: Place) -> None:
        target.resume(place, "everything")


@dataclass(frozen=True)
class CrashLoop:
    """SIGKILL again and again, as often as the part comes back."""

    name: str
    does: str
    part: Part
    at_least: int = 2
    in_doubt: bool = False
    needs: frozenset[Ability] = frozenset({"kill"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        deadline, struck = time.monotonic() + LOOP_SECONDS, [target.kill(place, self.part)]
        while time.monotonic() < deadline:
            if target.running(place, self.part):
                struck.append(target.kill(place, self.part))
            time.sleep(POLL_SECONDS)
        struck = [one for one in struck if one.killed]
        whole = together(struck)
        evidence = {"crashes": len(struck), "killed": len(whole.killed)}
        proven = whole.proven and len(struck) >= self.at_least
        return over(replace(whole, evidence=evidence, proven=proven, strikes=len(struck)))

    def lift(self, target: Target, place: Place) -> None:
        target.start(place, self.part)


@dataclass(frozen=True)
class RollingRestart:
    """Each worker is stopped and started in turn; the next one when the last one executes again."""

    name: str = "rolling-restart"
    does: str = "Workers are restarted one after the other, as at a rolling deploy"
    in_doubt: bool = False
    needs: frozenset[Ability] = frozenset({"stop"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        struck: list[Struck] = []
        for name in sorted(target.running(place, "worker")):
            struck.append(target.stop(place, "worker", {name}))
            target.start(place, "worker", {name})
            self._await(f"{name} to execute again", lambda name=name: self._works(target, place, name))
        return over(replace(together(struck), strikes=len(struck)))

    def lift(self, target: Target, place: Place) -> None:
        target.start(place, "worker")

    def _works(self, target: Target, place: Place, name: str) -> bool:
        return target.running(place, "worker").get(name) in target.in_hand()

    def _await(self, what: str, look: Callable[[], bool]) -> None:
        deadline = time.monotonic() + ROLL_SECONDS
        while not look():
            if time.monotonic() > deadline:
                raise NotInjectedError(f"waited {ROLL_SECONDS:g} s for {what}; it did not")
            time.sleep(POLL_SECONDS)


def _of(worker: str, moment: Moment) -> Moment:
    """The moment that names this worker; the first that names nobody, where its own does not come."""

    def wait() -> set[str]:
        deadline = time.monotonic() + BUSY_SECONDS
        while (named := moment()) and worker not in named and time.monotonic() < deadline:
            pass
        return named

    return wait


def together(struck: list[Struck]) -> Struck:
    """Several strikes as one: proven where each was. What each shows bears its number."""
    named = [
        (f"{number} {key}" if len(struck) > 1 else key, value)
        for number, one in enumerate(struck, 1)
        for key, value in one.evidence.items()
    ]
    return Struck(
        at=min((one.at for one in struck), default=time.time()),
        evidence=dict(named),
        proven=bool(struck) and all(one.proven for one in struck),
        killed=[pid for one in struck for pid in one.killed],
        frozen=[pid for one in struck for pid in one.frozen],
        cut_off=sorted({place for one in struck for place in one.cut_off}),
    )
