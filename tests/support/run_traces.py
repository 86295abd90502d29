"""What the processes of a deployment reported as spans, put together by runs from their files."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Shape = tuple[str, ...]
"""The spans of a run without identifiers and times: each by the names from the root to it."""


@dataclass(frozen=True)
class Reported:
    """One span, and the region of the process that reported it."""

    trace: str
    span: str
    parent: str
    name: str
    region: str
    run_id: str
    linked: tuple[str, ...]
    """The runs that it is linked with; each link must lead to the run's trace."""
    links: tuple[str, ...]


def reported(directory: Path) -> list[Reported]:
    """Every span in the files of a deployment."""
    files = sorted(directory.glob("*/data/spans-*.jsonl"))
    return [span for file in files for line in file.read_text().splitlines() for span in _spans(json.loads(line))]


def by_run(spans: Iterable[Reported]) -> dict[str, list[Reported]]:
    """The spans of each run, under its root: the request that started it. A start tried again has a root alone."""
    spans = list(spans)
    traces: dict[str, list[Reported]] = defaultdict(list)
    for span in spans:
        traces[span.trace].append(span)
    roots = [span for span in spans if span.run_id and not span.parent]
    return {root.run_id: traces[root.trace] for root in roots if len(traces[root.trace]) > 1}


def shape_of(spans: Iterable[Reported]) -> Shape:
    """The shape of a run whose spans hang together: raises AssertionError where one is reported as two things, where
    one has nothing above it, or where there are two runs in one trace."""
    known: dict[str, Reported] = {}
    for span in spans:
        first = known.setdefault(span.span, span)
        assert (first.name, first.parent) == (span.name, span.parent), f"{span.span} was reported as two things"

    def path(span: Reported) -> str:
        if not span.parent:
            return span.name
        assert span.parent in known, f"nothing was reported above {span.name} of trace {span.trace}"
        return f"{path(known[span.parent])} / {span.name}"

    shape = tuple(sorted(path(span) for span in known.values()))
    begun = [one for one in known.values() if one.name.startswith("invoke_agent")]
    assert len(begun) == 1, f"{len(begun)} runs in one trace: {shape}"
    return shape


def _spans(line: dict[str, Any]) -> Iterable[Reported]:
    for resource in line["resourceSpans"]:
        about = _plain(resource["resource"]["attributes"])
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                links = span.get("links", [])
                yield Reported(
                    trace=span["traceId"],
                    span=span["spanId"],
                    parent=span.get("parentSpanId", ""),
                    name=span["name"],
                    region=about["holdfast.region"],
                    run_id=_plain(span.get("attributes", [])).get("holdfast.run_id", ""),
                    linked=tuple(_plain(link["attributes"])["holdfast.run_id"] for link in links),
                    links=tuple(link["traceId"] for link in links),
                )


def _plain(attributes: list[dict[str, Any]]) -> dict[str, str]:
    return {one["key"]: one["value"].get("stringValue", "") for one in attributes}
