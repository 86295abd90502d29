"""Reads tickets from JSONL or CSV; a malformed line is reported with its number and the rest go on."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError

from refund_desk.ticket import Ticket


@dataclass(frozen=True)
class Malformed:
    """A line that is not a ticket, and why."""

    line: int
    reason: str


@dataclass
class TicketFile:
    """What a file held: tickets in order, and the lines that were none."""

    tickets: list[Ticket] = field(default_factory=list[Ticket])
    malformed: list[Malformed] = field(default_factory=list[Malformed])


def bundled_tickets() -> Path:
    """The file of sample tickets that comes with the desk."""
    return Path(str(files("refund_desk").joinpath("data/tickets.jsonl")))


def read_tickets(path: Path) -> TicketFile:
    """Every ticket of a `.jsonl` or `.csv` file (CSV with a header line), and every malformed line.

    Raises OSError where the file can't be read, and UnicodeDecodeError where it is not UTF-8.
    """
    text = path.read_text(encoding="utf-8-sig")
    lines = _csv_lines(text) if path.suffix.lower() == ".csv" else _json_lines(text)
    result = TicketFile()
    first_seen: dict[str, int] = {}
    for number, parsed in lines:
        if isinstance(parsed, str):
            result.malformed.append(Malformed(number, parsed))
        elif (before := first_seen.setdefault(parsed.ticket_id, number)) != number:
            result.malformed.append(Malformed(number, f"ticket_id {parsed.ticket_id!r} was on line {before} already"))
        else:
            result.tickets.append(parsed)
    return result


def _json_lines(text: str) -> Iterator[tuple[int, Ticket | str]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, Ticket.model_validate_json(line)
            except ValidationError as error:
                yield number, _why(error)


def _csv_lines(text: str) -> Iterator[tuple[int, Ticket | str]]:
    reader = csv.DictReader(io.StringIO(text), restkey="(more columns than the header)")
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield reader.reader.line_num, f"line: {error}"
            continue
        try:
            yield reader.line_num, Ticket.model_validate({key: value for key, value in row.items() if value})
        except ValidationError as error:
            yield reader.line_num, _why(error)


def _why(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in one['loc']) or 'line'}: {one['msg']}" for one in error.errors()[:3]
    )
