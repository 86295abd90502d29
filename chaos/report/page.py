"""The page for people: one file that asks for nothing else, with its data inside."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from chaos.checks.writers import executions
from chaos.history import History
from chaos.report.figures import Source, figures, phases, sources_of
from chaos.report.folder import PAGE, Report
from chaos.report.lanes import stretches
from chaos.report.story import happened
from chaos.report.trace import trace
from chaos.report.witness import pieces, problems

MARKS = {
    "valid": Markup('<path class="mark" d="M4 13l5.5 5.5L20 6.5"/>'),
    "invalid": Markup('<path class="mark" d="M5.5 5.5l13 13m0-13l-13 13"/>'),
    "unknown": Markup('<path class="mark" d="M7.5 8.2a4.6 4.6 0 1 1 6.6 4.1c-1.4.7-2.1 1.6-2.1 3.2M12 20v.01"/>'),
}
"""A shape for each answer: colour alone tells nothing to many."""


@dataclass(frozen=True)
class File:
    """A file of the report's folder."""

    name: str
    href: str
    size: str


@dataclass(frozen=True)
class Group:
    """Files that lie together."""

    name: str
    files: list[File]


def render(report: Report) -> str:
    """The page. Whatever the record holds stays text: nothing of it becomes markup or script."""
    verdict, history = report.verdict, report.history
    known = {one.run_id for one in history.operations} | {one.run_id for one in history.attempts or []}
    shown, found = phases(history, verdict.recovery), problems(verdict.checks, history)
    drawn = trace(history, found, verdict.recovery.rto)
    style, script = own("page.css"), own("page.js")
    return environment().get_template("page.html.jinja").render(
        policy=policy(style, script),
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        trace=None if drawn is None else as_data(drawn),
        lanes=_told(history),
        verdict=verdict,
        claim=report.claim,
        happened=happened(report),
        began=_clock(history),
        figures=figures(report),
        phases=shown,
        whole=sum(phase.seconds for phase in shown) or 1.0,
        problems=found,
        checks=[
            (check, [pieces(line, known) for line in check.witness], sources_of(check, history))
            for check in verdict.checks
        ],
        faults=[(fault, Source("faults", line)) for line, fault in enumerate(history.faults, 1)],
        intrusions=[(one, Source("intrusions", line)) for line, one in enumerate(history.intrusions or [], 1)],
        files=list(_files(report.folder)),
        marks=MARKS,
        written=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
    )  # fmt: skip


def policy(style: str, script: str = "") -> str:
    """A Content-Security-Policy under which nothing but this style and this script is ever used."""
    allowed = "".join(
        f"; {kind}-src 'sha256-{base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()}'"
        for kind, own in (("style", style), ("script", script))
        if own
    )
    return f"default-src 'none'{allowed}; base-uri 'none'; form-action 'none'"


def as_data(value: object) -> Markup:
    """JSON for a block of data within a page: no character of it can end the block."""
    told = json.dumps(value, separators=(",", ":"))
    return Markup(told.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))  # noqa: S704


def environment() -> Environment:
    """Templates in which every text is escaped."""
    return Environment(
        loader=PackageLoader("chaos.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def own(name: str) -> str:
    """A file of this package."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _clock(history: History) -> str | None:
    at = history.fault_at
    at = at if at is not None else min((one.invoked_at for one in history.operations), default=None)
    return None if at is None else time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def _told(history: History) -> str:
    """The lanes in words, for who can't see them."""
    done, events = executions(history), history.events or []
    ends = [one.began for one in done] + [event.at for event in events]
    if not ends:
        return "no roles were recorded"
    zero = history.fault_at if history.fault_at is not None else min(ends)
    regions = sorted({one.region for one in done} | {event.region for event in events})
    return "; ".join(
        f"region {one.region} {one.role} from {one.begin - zero:.2f} s to {one.end - zero:.2f} s"
        for one in stretches(history, done, regions, min(ends), max(ends))
    )


def _files(folder: Path) -> Iterator[Group]:
    """What lies beside the page, by folder."""
    files: dict[str, list[File]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != PAGE:
            where = path.parent.relative_to(folder).as_posix()
            files.setdefault("verdict" if where == "." else where, []).append(File(path.name, quote(name), _size(path)))
    yield from (Group(name, own) for name, own in sorted(files.items(), key=lambda one: (one[0] != "verdict", one[0])))


def _size(path: Path) -> str:
    if path.suffix == ".jsonl":
        with path.open("rb") as file:
            lines = sum(1 for _ in file)
        return f"{lines:,} line{'s'[: lines != 1]}"
    return f"{path.stat().st_size / 1024:,.0f} KiB"
