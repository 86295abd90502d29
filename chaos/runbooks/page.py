"""The format of a runbook: Markdown that people read on GitHub, and that a drill executes as it stands.

A page has a front matter, a title, and the sections Symptom, Decision, Steps and Verification, in this order. Each step
is a heading with its number, and has one block of commands and a paragraph that begins with **Abort if**:

    ### 2. Move the role

    ```console
    $ holdfast switchover  # disturbs runs, within 60 s
    region $STANDBY is active
    [0]
    ```

    **Abort if** it says `no single region is active`: the region is being lost; see [Region loss](region-loss.md).

Each line below a command must be seen in what it prints, in this order; `...` stands for anything, and white space
does not count. `[1]` is the exit code, which is 0 where none is shown. `$ACTIVE` and `$STANDBY` are the regions that
were so when all was well. The comment behind a command says how long it may take (60 s where it does not), that it is
given again until it says what is expected (`repeat`), and that it strikes at runs under way (`disturbs runs`). What an
abort `says` ends the runbook at once. A block ```` ```drill ```` with the word `lift` is where the world mends itself
in a drill, such as a network.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.state import project_root

__all__ = [
    "FOLDER",
    "Command",
    "Malformed",
    "Runbook",
    "Step",
    "Trouble",
    "pages_in",
    "read",
    "runbook_named",
    "runbooks",
]

FOLDER = project_root() / "runbooks"
OTHER_PAGES = frozenset({"README", "RESULTS"})
SECTIONS = ("Symptom", "Decision", "Steps", "Verification")
SECONDS = 60.0
ABORT = "**Abort if**"

_HEADING = re.compile(r"(#{1,3}) (.+)")
_NUMBERED = re.compile(r"(\d+)\. (.+)")
_FENCE = re.compile(r"```(\w*)\s*")
_COMMENT = re.compile(r"\s+# ")
_WITHIN = re.compile(r"within (\d+) s")
_EXIT = re.compile(r"\[(\d+)\]")
_SAYS = re.compile(r"says `([^`]+)`")


class Malformed(ValueError):
    """A page is no runbook; the message begins with file and line."""


@dataclass(frozen=True)
class Trouble:
    """A fault of the catalogue, and where it strikes."""

    fault: str
    where: str


@dataclass(frozen=True)
class Command:
    """One line for a shell, with what it must print and answer. `seconds` is its deadline, repetitions included."""

    line: int
    text: str
    expected: tuple[str, ...] = ()
    exits: int = 0
    seconds: float = SECONDS
    repeat: bool = False
    disturbs: bool = False


@dataclass(frozen=True)
class Step:
    """Commands with one purpose. Where it `lifts`, it has none, and a drill lifts the fault instead."""

    title: str
    line: int
    commands: tuple[Command, ...]
    lifts: bool
    abort: str
    aborts_on: tuple[str, ...]
    """What ends the runbook as soon as a command prints it."""


class _Front(BaseModel):
    """The front matter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fault: str = Field(pattern=r"^(none|[a-z0-9-]+ at [a-z]+)$")
    before: str | None = Field(default=None, pattern=r"^[a-z0-9-]+ at [a-z]+$")
    not_drilled: str | None = Field(default=None, alias="not drilled", min_length=1)


@dataclass(frozen=True)
class Runbook:
    """A page. Without a `fault` the procedure itself is what happens; `before` is what has happened already."""

    name: str
    path: Path
    title: str
    symptom: str
    decision: str
    fault: Trouble | None
    before: Trouble | None
    not_drilled: str | None
    """Why a drill can't execute it; None where one can."""
    steps: tuple[Step, ...]

    @property
    def troubles(self) -> tuple[Trouble, ...]:
        """What a drill injects."""
        return tuple(one for one in (self.before, self.fault) if one is not None)


@dataclass(frozen=True)
class _Section:
    level: int
    title: str
    line: int
    body: tuple[tuple[int, str], ...]

    @property
    def text(self) -> str:
        return "\n".join(line for _, line in self.body).strip()


def pages_in(folder: Path = FOLDER) -> dict[str, Path]:
    """The files that are runbooks, by name."""
    return {path.stem: path for path in sorted(folder.glob("*.md")) if path.stem not in OTHER_PAGES}


def runbooks(folder: Path = FOLDER) -> list[Runbook]:
    """Every page of the folder, by name. Raises Malformed."""
    return list(map(read, pages_in(folder).values()))


def runbook_named(name: str, folder: Path = FOLDER) -> Runbook:
    """The page of that name. Raises KeyError, which names what there is, and Malformed."""
    pages = pages_in(folder)
    if name not in pages:
        raise KeyError(f"there is no runbook {name!r}; there are {', '.join(pages)}")
    return read(pages[name])


def read(path: Path) -> Runbook:
    """The page in that file. Raises Malformed, with the first line that is wrong."""
    lines = path.read_text(encoding="utf-8").splitlines()
    front, begin = _front(path, lines)
    sections = list(_sections(list(enumerate(lines, 1))[begin:]))
    titles = [one for one in sections if one.level == 1]
    if len(titles) != 1 or sections[0] is not titles[0]:
        raise _wrong(path, begin + 1, "a page begins with its only title, as `# Title`")
    found = [one for one in sections if one.level == 2 and one.title in SECTIONS]
    if tuple(one.title for one in found) != SECTIONS:
        raise _wrong(path, titles[0].line, f"the sections {', '.join(SECTIONS)} are wanted once each, in this order")
    symptom, decision, steps, verification = found
    for section in (symptom, decision):
        if not section.text:
            raise _wrong(path, section.line, f"{section.title} says nothing")
    numbered = [one for one in sections if one.level == 3 and steps.line < one.line < verification.line]
    if not numbered:
        raise _wrong(path, steps.line, "there is no step: begin the first with `### 1. What it does`")
    return Runbook(
        name=path.stem,
        path=path,
        title=titles[0].title,
        symptom=symptom.text,
        decision=decision.text,
        fault=_trouble(front.fault),
        before=_trouble(front.before),
        not_drilled=front.not_drilled,
        steps=(*(_step(path, one, number) for number, one in enumerate(numbered, 1)), _step(path, verification)),
    )


def _front(path: Path, lines: Sequence[str]) -> tuple[_Front, int]:
    """The front matter, and the number of lines that it takes."""
    if not lines or lines[0] != "---" or "---" not in lines[1:]:
        raise _wrong(path, 1, "a page begins with a front matter between two lines `---`, such as `fault: none`")
    end = lines.index("---", 1)
    try:
        return _Front.model_validate(yaml.safe_load("\n".join(lines[1:end])) or {}), end + 1
    except yaml.YAMLError as error:
        raise _wrong(path, 2, f"the front matter is no YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else "front matter"
        line = next((number for number, text in enumerate(lines[:end], 1) if text.startswith(f"{key}:")), 1)
        raise _wrong(
            path, line, f"{key}: {first['msg']}; there are fault (`NAME at PLACE`, or `none`), before and not drilled"
        ) from error


def _trouble(text: str | None) -> Trouble | None:
    fault, _, where = (text or "none").partition(" at ")
    return Trouble(fault, where) if where else None


def _sections(lines: Sequence[tuple[int, str]]) -> Iterator[_Section]:
    """Every heading with what follows, up to the next; a `#` in a block is no heading."""
    heading: tuple[int, str, int] | None = None
    body: list[tuple[int, str]] = []
    fenced = False
    for number, text in lines:
        fenced ^= text.startswith("```")
        match = None if fenced else _HEADING.fullmatch(text)
        if match is None:
            body.append((number, text))
            continue
        if heading is not None:
            yield _Section(*heading, tuple(body))
        heading, body = (len(match[1]), match[2].strip(), number), []
    yield _Section(*(heading or (0, "", 0)), tuple(body))


def _step(path: Path, section: _Section, number: int | None = None) -> Step:
    """A step, or the verification, which has no number and may do without an abort."""
    title = section.title
    if number is not None:
        match = _NUMBERED.fullmatch(title)
        if match is None or int(match[1]) != number:
            raise _wrong(path, section.line, f"step {number} is wanted here, as `### {number}. What it does`")
        title = match[2]
    kind, block = _block(path, section)
    if kind == "drill" and [text for _, text in block] != ["lift"]:
        raise _wrong(path, section.line, "a block `drill` has one line, `lift`")
    abort = next((one for one in section.text.split("\n\n") if one.startswith(ABORT)), "")
    if number is not None and not abort:
        raise _wrong(path, section.line, f"step {number} lacks a paragraph that begins with {ABORT}")
    return Step(
        title=title,
        line=section.line,
        commands=tuple(_commands(path, block)) if kind == "console" else (),
        lifts=kind == "drill",
        abort=" ".join(abort.split()),
        aborts_on=tuple(_SAYS.findall(" ".join(abort.split()))),
    )


def _block(path: Path, section: _Section) -> tuple[str, list[tuple[int, str]]]:
    """The only block of commands of a section, and of which kind it is; other blocks are for readers."""
    found: list[tuple[str, list[tuple[int, str]]]] = []
    inside = False
    for number, text in section.body:
        fence = _FENCE.fullmatch(text)
        if inside and text.startswith("```"):
            inside = False
        elif inside:
            found[-1][1].append((number, text))
        elif fence is not None:
            inside = True
            found.append((fence[1], []))
    if inside:
        raise _wrong(path, section.line, f"a block of {section.title!r} has no end")
    wanted = [one for one in found if one[0] in ("console", "drill")]
    if len(wanted) != 1:
        raise _wrong(path, section.line, f"{section.title!r} has {len(wanted)} blocks `console` or `drill`, not one")
    return wanted[0]


def _commands(path: Path, block: Sequence[tuple[int, str]]) -> Iterator[Command]:
    starts = [index for index, (_, text) in enumerate(block) if text.startswith("$ ")]
    if not starts or starts[0] != 0:
        raise _wrong(path, block[0][0] if block else 1, "a block `console` begins with a command, as `$ holdfast …`")
    for begin, end in zip(starts, [*starts[1:], len(block)], strict=True):
        yield _command(path, block[begin][0], block[begin][1], [text for _, text in block[begin + 1 : end]])


def _command(path: Path, line: int, text: str, below: Sequence[str]) -> Command:
    parts = _COMMENT.split(text.removeprefix("$ "), maxsplit=1)
    seconds, repeat, disturbs = SECONDS, False, False
    for phrase in parts[1].split(", ") if len(parts) > 1 else ():
        if within := _WITHIN.fullmatch(phrase):
            seconds = float(within[1])
        elif phrase == "repeat":
            repeat = True
        elif phrase == "disturbs runs":
            disturbs = True
        else:
            raise _wrong(path, line, f"{phrase!r} is none of `within N s`, `repeat` and `disturbs runs`")
    codes = [int(match[1]) for one in below if (match := _EXIT.fullmatch(one.strip()))]
    expected = tuple(one for one in below if one.strip() and not _EXIT.fullmatch(one.strip()))
    if len(codes) > 1:
        raise _wrong(path, line, "one command has one exit code")
    return Command(line, parts[0].strip(), expected, codes[0] if codes else 0, seconds, repeat, disturbs)


@functools.cache
def pattern(expected: str) -> re.Pattern[str]:
    """What finds an expected line in a text whose white space was collapsed."""
    words = " ".join(expected.split())
    return re.compile(".*?".join(re.escape(part.strip()) for part in words.split("...")))


def _wrong(path: Path, line: int, what: str) -> Malformed:
    return Malformed(f"{path}:{line}: {what}")
