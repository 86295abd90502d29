"""The page of the fault matrix, in Markdown: nothing but what reports say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import median

from chaos.matrix import ROWS, Row, Standing, covering
from chaos.report.ci import ANSWERS, by_experiment, deviation, grid, plain, summed
from chaos.report.folder import Report
from chaos.verdict import Answer, worst

MARKS: dict[Answer, str] = {"valid": "✓", "invalid": "✗", "unknown": "?"}
FEW = 5
_TOLD: dict[Answer, str] = {"valid": "valid", "invalid": "**invalid**", "unknown": "**unknown**"}
_BEGAN = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)\d\d")
_FIGURES = ("experiment", "repeats", "RTO median", "most", "RPO", "runs", "not ended", "applied twice", "run again")


def as_page(standing: Sequence[Standing], reports: Sequence[Report], broken: Sequence[Path] = ()) -> str:
    """The page of all experiments, of every report that there is, also of the catalogue's others, and what has none."""
    names = {one.experiment.name for one in standing}
    others = [one for one in reports if one.verdict.experiment not in names]
    parts = [_HEAD, _told(standing, reports), _WORDS, "## Rows", _rows(standing), "## Experiments"]
    rows = [[*_figures(_link(one.experiment.name), one.reports), _stands([one])] for one in standing]
    parts.append(grid([*_FIGURES, "version", "stands"], rows))
    if others:
        parts += ["## Beside the matrix", _others(others)]
    wrong = [one for one in reports if one.verdict.answer != "valid"]
    parts += ["## What was not valid", _FOUND, *(_wrong(one) for one in wrong)]
    if not wrong:
        parts.append("Nothing.")
    if broken:
        listed = "\n".join(f"- {plain(one.name)}" for one in broken)
        parts += ["## Begun and not judged", f"Broken off, or under way as this page was made:\n\n{listed}"]
    return "\n\n".join(parts) + "\n"


_HEAD = """# The fault matrix

<!-- Made by `holdfast chaos matrix`: a change by hand is lost. -->

```
make matrix                            # run what three repeats of all are lacking, and make this page; may be stopped
holdfast chaos matrix --page-only      # make it of the reports that there are
holdfast chaos run NAME --repeat 3     # one experiment again, with `make matrix` or `--page-only` afterwards
```"""

_WORDS = """- Repeats are in their order, the oldest first: ✓ valid, ✗ invalid, ? unknown. None is left out.
- An experiment *stands* as the worst of its last three repeats, and of all that tested the same code as one of these. What is not valid stands until other code was valid three times.
- *RTO* is from the first fault to the first operation of an open run in another region, in seconds; empty where no region took over. *RPO* counts acknowledged starts and operations that were lost.
- *Version* is the commit that was tested, with + where files differed from it. [What the checks claim](../chaos/README.md#how-to-read-a-report)."""  # noqa: E501 - a line is a paragraph

_FOUND = "What was found, how it is seen again, and since when it is fixed: [track record](../TRACK_RECORD.md)."


def _told(standing: Sequence[Standing], reports: Sequence[Report]) -> str:
    must = [one for one in standing if "must" in one.experiment.tags]
    answers = [one.answer for one in must]
    held = answers.count("valid")
    head = f"**{held} of {len(must)} must-experiments stand as valid**"
    head += f", {answers.count('invalid')} as invalid, {answers.count('unknown')} as unknown."
    given = [one.verdict.answer for one in reports]
    counts = ", ".join(f"{given.count(one)} {one}" for one in ANSWERS)
    runs, open_, twice, again = _sums(reports)
    sums = f"{runs} runs accepted, {open_} not ended; {twice} effects applied twice"
    lines = [head, f"{len(reports)} reports{_when(reports)}: {counts}. {sums}, {again} completed operations run again."]
    return " ".join(lines)


def _rows(standing: Sequence[Standing]) -> str:
    by_name = {one.experiment.name: one for one in standing}
    cells: list[list[str]] = []
    for row in ROWS:
        own = [by_name[one.name] for one in covering(row) if one.name in by_name]
        shown = ", ".join(f"{_link(one.experiment.name)} {_marks(one.reports)}" for one in own)
        cells.append([row.name, row.fault, "must" if row.must else "should", _text(shown, row), _stands(own)])
    return grid(["row", "fault", "", "experiments", "stands"], cells)


def _text(shown: str, row: Row) -> str:
    return ". ".join(filter(None, (shown, row.beside and f"*Beside:* {row.beside}")))


def _stands(own: Sequence[Standing]) -> str:
    answers: list[Answer] = [one.answer for one in own]
    lacking = sum(one.lacks for one in own)
    told = _TOLD[worst(answers)] if answers else "no experiment"
    return f"{told}, {lacking} repeat{'s'[: lacking != 1]} lacking" if lacking else told


def _others(reports: Sequence[Report]) -> str:
    rows = [_figures(plain(name), own) for name, own in by_experiment(reports).items()]
    return grid([*_FIGURES, "version"], rows)


def _figures(name: str, own: Sequence[Report]) -> list[str]:
    rtos = [one.verdict.recovery.rto for one in own if one.verdict.recovery.rto is not None]
    seconds = [f"{median(rtos):.2f}", f"{max(rtos):.2f}"] if rtos else ["", ""]
    versions = list(dict.fromkeys(one.verdict.version or "not recorded" for one in own))
    if not own:
        return [name, "none", *[""] * 8]
    return [name, _marks(own), *seconds, _rpo(own), *_sums(own), ", ".join(versions)]


def _sums(own: Sequence[Report]) -> tuple[str, str, str, str]:
    """Runs, those that did not end, effects applied twice, completed operations executed again."""
    accepted, ended = summed(own, "K1", "accepted"), summed(own, "K1", "ended")
    open_ = "?" if "?" in (accepted, ended) else str(int(accepted) - int(ended))
    return accepted, open_, summed(own, "K2", "duplicate-applied"), summed(own, "K5", "executed-again-completed")


def _rpo(own: Sequence[Report]) -> str:
    found = [one.verdict.recovery.rpo_events for one in own]
    known = [one for one in found if one is not None]
    return str(max(known)) if len(known) == len(found) else "?"


def _wrong(report: Report) -> str:
    return f"{deviation(report)}\n- version {report.verdict.version or 'not recorded'}"


def _marks(reports: Sequence[Report]) -> str:
    """One for each repeat; many alike in a row as their number."""
    runs = [(mark, len(list(alike))) for mark, alike in groupby(MARKS[one.verdict.answer] for one in reports)]
    return " ".join(mark * times if times <= FEW else f"{mark}×{times}" for mark, times in runs) or "–"


def _link(name: str) -> str:
    return f"[`{name}`](../chaos/experiments/{name}.yaml)"


def _when(reports: Sequence[Report]) -> str:
    began = [found for one in reports if (found := _BEGAN.match(one.folder.name))]
    if not began:
        return ""
    first, last = ("{}-{}-{} {}:{}".format(*found.groups()) for found in (began[0], began[-1]))
    return f" from {first} to {last} UTC"
