"""A runbook is followed to the letter: each step is a claim, and the first that fails ends it with what was seen."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from chaos.faults import NotInjectedError
from chaos.history import Claim, Fault
from chaos.runbooks import player as players
from chaos.runbooks.page import read
from chaos.runbooks.player import Player, Ran, bash, drilled
from chaos.runbooks.results import load
from chaos.verdict import Answer
from tests.support.deployments import manifest
from tests.support.histories import FAULT_AT, region_loss

pytestmark = pytest.mark.unit

PAGE = """\
---
fault: region-loss at active
---
# Region loss
## Symptom
It is gone.
## Decision
Wait.
## Steps
### 1. Look
```console
$ holdfast status  # repeat, within 5 s
region-$ACTIVE ... run
[1]
```

**Abort if** it says `both are gone`: stop.
### 2. Mend
```drill
lift
```

**Abort if** it can't be mended.
### 3. Move
```console
$ holdfast switchover  # disturbs runs
```

**Abort if** it does not.
## Verification
```console
$ holdfast status
everything
as it should
```
"""
DOWN, GOOD = Ran("region-a does\n  not   run", 1), Ran("everything is\nas it should be", 0)


class ToldSession:
    """A session whose deployment does what it is told, and that remembers what it was asked for."""

    runs = 24
    began = 1_000_000.0

    def __init__(self, directory: Path) -> None:
        self.manifest = manifest(directory)
        self.did: list[str] = []
        self.injected: list[Fault] = []
        self.claims: list[Claim] = []
        self.wrong: Exception | None = None

    def wait_healthy(self, seconds: float) -> bool:
        self.did.append("healthy")
        return True

    def wait_active(self) -> str:
        return "a"

    def other(self, region: str) -> str:
        return "b" if region == "a" else "a"

    def begin_load(self) -> int:
        self.did.append("load")
        return 24

    def hold_in_flight(self, at_least: int) -> bool:
        self.did.append(f"hold {at_least}")
        return True

    def inject(self, name: str, where: str) -> Fault:
        self.did.append(f"inject {name} {where}")
        if self.wrong is not None:
            raise self.wrong
        self.injected.append(Fault(name=name, target=where, at=FAULT_AT, proven=True))
        return self.injected[-1]

    def note(self, fault: Fault) -> Fault:
        self.injected.append(fault)
        return fault

    def lift(self) -> list[str]:
        self.did.append("lift")
        return []

    def claim(self, claim: str, look: Callable[[], str]) -> bool:
        self.claims.append(Claim(claim=claim, at=0.0, held=not look()))
        return True

    def wait_ended(self) -> bool:
        self.did.append("ended")
        return True


class Typed:
    """A shell that prints what a test says, and remembers what was typed."""

    def __init__(self, *answers: Ran) -> None:
        self.answers = list(answers)
        self.lines: list[str] = []
        self.environment: dict[str, str] = {}

    def __call__(self, line: str, environment: Mapping[str, str], seconds: float) -> Ran:
        self.lines.append(line)
        self.environment = dict(environment)
        return self.answers.pop(0)


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(players, "PAUSE_SECONDS", 0.001)


@pytest.fixture
def session(tmp_path: Path) -> ToldSession:
    return ToldSession(tmp_path / "local")


def following(session: ToldSession, shell: Typed, page: str = PAGE, said: list[str] | None = None) -> Player:
    path = session.manifest.directory.parent / "region-loss.md"
    path.write_text(page, encoding="utf-8")
    return Player(session, read(path), (said if said is not None else []).append, shell)  # type: ignore[arg-type]


def test_the_page_is_followed_under_load_and_each_step_is_a_claim(session: ToldSession) -> None:
    shell, said = Typed(DOWN, Ran("", 0), GOOD), list[str]()
    player = following(session, shell, said=said)
    journal = player.play()
    assert session.did == [
        *("healthy", "load", "hold 24", "inject region-loss active"),
        *("lift", "lift", "healthy", "ended"),
    ]
    assert shell.lines == ["holdfast status", "holdfast switchover", "holdfast status"]
    assert [step.held for step in player.steps] == [True] * 4
    assert [one.claim for one in session.claims] == [
        "step 1, Look (region-loss.md:10)",
        "step 2, Mend (region-loss.md:18)",
        "step 3, Move (region-loss.md:24)",
        "Verification (region-loss.md:30)",
        "both regions are healthy again",
    ]
    assert all(one.held for one in session.claims)
    assert journal["experiment"]["title"] == "Runbook: Region loss"
    assert said[0] == "Region loss: region a was active"
    assert player.since == FAULT_AT


def test_an_operators_shell_knows_the_deployment_and_who_was_active(session: ToldSession) -> None:
    shell = Typed(DOWN, Ran("", 0), GOOD)
    following(session, shell).play()
    known = {name: shell.environment[name] for name in ("ACTIVE", "STANDBY", "DEPLOYMENT", "HOLDFAST_STATE", "SINCE")}
    directory = session.manifest.directory
    assert known == {
        "ACTIVE": "a",
        "STANDBY": "b",
        "DEPLOYMENT": str(directory),
        "HOLDFAST_STATE": str(directory.parent),
        "SINCE": "1970-01-12T13:46:40",
    }


def test_what_disturbs_runs_is_a_fault_of_the_operator(session: ToldSession) -> None:
    following(session, Typed(DOWN, Ran("moved", 0), GOOD)).play()
    fault = session.injected[-1]
    assert (fault.name, fault.target, fault.proven) == ("operator", "step 3: holdfast switchover", True)
    assert fault.evidence == {"exit-code": 0, "said": "moved"}
    assert fault.until is not None


def test_a_command_is_repeated_until_it_says_what_is_expected(session: ToldSession) -> None:
    shell = Typed(GOOD, Ran("region-a does not run", 0), DOWN, Ran("", 0), GOOD)
    player = following(session, shell)
    player.play()
    assert shell.lines[:3] == ["holdfast status"] * 3
    assert player.steps[0].held


FAILURES = [
    (Ran("nothing", 1), "`holdfast status` did not say 'region-a ... run' within 5 s; seen: nothing"),
    (Ran("region-a does not run", 0), "`holdfast status` ended with 0 instead of 1; seen: region-a does not run"),
    (Ran("region-a does", None), "`holdfast status` had not ended after 5 s; seen: region-a does"),
    (
        Ran("region-a does not run: both\nare gone", 1),
        "`holdfast status` said 'both are gone', at which the page says to abort",
    ),
    (Ran("x" * 700, 1), f"`holdfast status` did not say 'region-a ... run' within 5 s; seen: … {'x' * 600}"),
    (Ran("", 1), "`holdfast status` did not say 'region-a ... run' within 5 s; seen: nothing"),
]


@pytest.mark.parametrize(("ran", "detail"), FAILURES)
def test_the_first_step_that_fails_ends_the_runbook(session: ToldSession, ran: Ran, detail: str) -> None:
    shell = Typed(ran)
    player = following(session, shell, PAGE.replace("repeat, within 5 s", "within 5 s"))
    player.play()
    assert [(step.held, step.detail) for step in player.steps] == [(False, detail)]
    assert (session.claims[0].held, session.claims[0].detail) == (False, detail)
    assert session.did[-3:] == ["lift", "healthy", "ended"]


def test_an_abort_is_not_waited_for(session: ToldSession) -> None:
    shell = Typed(Ran("both are gone", 1))
    following(session, shell).play()
    assert shell.lines == ["holdfast status"]


def test_what_is_expected_must_come_in_its_order(session: ToldSession) -> None:
    player = following(session, Typed(DOWN, Ran("", 0), Ran("as it should be, everything", 0)))
    player.play()
    assert player.steps[-1].detail.startswith("`holdfast status` did not say 'as it should'")


def test_a_disturbance_that_fails_is_not_proven(session: ToldSession) -> None:
    following(session, Typed(DOWN, Ran("refused", 1))).play()
    assert not session.injected[-1].proven


def test_a_fault_that_could_not_be_injected_leaves_nothing_to_follow(session: ToldSession) -> None:
    session.wrong = NotInjectedError("nobody is active")
    shell = Typed()
    player = following(session, shell)
    assert player.play()["steps"] == []
    assert (shell.lines, player.since) == ([], None)


def test_what_was_before_the_page_is_over_when_it_begins(session: ToldSession) -> None:
    page = PAGE.replace("fault: region-loss at active", "before: switchover at standby\nfault: none")
    player = following(session, Typed(DOWN, Ran("", 0), GOOD), page)
    player.play()
    assert session.did[:5] == ["healthy", "load", "inject switchover standby", "healthy", "hold 24"]
    assert player.since is not None
    assert player.since > FAULT_AT
    session.wrong = NotInjectedError("nobody is active")
    assert following(session, Typed(), page).play()["steps"] == []


class ToldDrill:
    """Plays in a session of its own, and gives a verdict."""

    def __init__(self, session: ToldSession, folder: Path, answer: Answer = "valid") -> None:
        self.session, self.folder, self.answer = session, folder, answer

    def judged(self, name: str, runs: int, play: Callable[[Any], object]) -> tuple[Any, Path]:
        from chaos.report import verdict_of

        assert (name, runs) == ("runbook-region-loss", 24)
        play(self.session)
        history = region_loss()
        history.save(self.folder / "history")
        return verdict_of(history).model_copy(update={"answer": self.answer}), self.folder


@pytest.mark.parametrize("before", [False, True])
def test_what_was_measured_is_kept(session: ToldSession, tmp_path: Path, before: bool) -> None:
    shell = Typed(DOWN, Ran("", 0), GOOD)
    page = PAGE.replace("fault: region-loss", "before: switchover at standby\nfault: region-loss") if before else PAGE
    runbook = following(session, shell, page).runbook
    drill = ToldDrill(session, tmp_path / "report")
    verdict, folder, result = drilled(drill, runbook, 24, [].append, tmp_path, shell)  # type: ignore[arg-type]
    assert (verdict.answer, folder) == ("valid", tmp_path / "report")
    assert load(tmp_path) == [result]
    assert (result.runbook, result.active, result.answer) == ("region-loss", "a", "valid")
    assert result.rto == (None if before else verdict.recovery.rto)
    assert result.no_service is not None


def test_where_no_step_was_taken_nothing_is_kept(session: ToldSession, tmp_path: Path) -> None:
    session.wrong = NotInjectedError("nobody is active")
    runbook = following(session, Typed()).runbook
    drill = ToldDrill(session, tmp_path / "report", "unknown")
    _, _, result = drilled(drill, runbook, 24, [].append, tmp_path)  # type: ignore[arg-type]
    assert (result.answer, result.no_service, load(tmp_path)) == ("unknown", None, [])


class TestTheShell:
    def test_it_gives_both_streams_and_the_exit_code(self) -> None:
        assert bash("echo out; echo $NAME >&2; exit 3", {"NAME": "err"}, 5) == Ran("out\nerr\n", 3)

    def test_at_the_deadline_all_that_it_started_is_ended(self, tmp_path: Path) -> None:
        ran = bash(f"echo begun; (sleep 30; touch {tmp_path / 'late'}) & sleep 30", {"PATH": "/usr/bin:/bin"}, 0.3)
        assert ran == Ran("begun\n", None)

    def test_an_interrupt_ends_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        told: list[float | None] = []
        real = subprocess.Popen.communicate

        def interrupted(self: Any, *_: Any, timeout: float | None = None) -> Any:
            told.append(timeout)
            if timeout is not None:
                raise KeyboardInterrupt
            return real(self)

        monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bash("sleep 30", {"PATH": "/usr/bin:/bin"}, 5)
        assert told == [5, None]
