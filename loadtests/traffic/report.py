"""A load and a search for the capacity, for people, programs and documentation: page, chart, JSON, Markdown."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from loadtests.telling import renew
from loadtests.traffic import charts
from loadtests.traffic.charts import Chart, Line, chart
from loadtests.traffic.entries import Entry
from loadtests.traffic.figures import Figures, quantile
from loadtests.traffic.locusts import Loaded
from loadtests.traffic.objectives import Latency, Objectives
from loadtests.traffic.results import Capacity, Results

__all__ = ["CHART", "DATA", "PAGE", "answer_of", "as_markdown", "write_capacity", "write_load"]

PAGE, DATA, CHART = "report.html", "results.json", "capacity.svg"
SLICES = 30
"""Into how many parts a load is cut to show its course."""
ANSWERS = {True: "holds", False: "missed", None: "unknown"}
TOLD = {True: "Every objective holds", False: "An objective is missed", None: "An objective could not be judged"}
PERCENTILES: tuple[tuple[str, str, float], ...] = (("p50", "low", 0.5), ("p95", "middle", 0.95), ("p99", "high", 0.99))
FIGURES = ("", "well", "failed", "p50", "p95", "p99", "worst")
_TIMES = ("start p50", "p95", "p99", "end p50", "p95", "p99")
STEPS = ("runs/s", "started", "ended", *_TIMES, "failed", "load", "answer")


def write_load(folder: Path, loaded: Loaded, results: Results, objectives: Objectives) -> Path:
    """Write a load's page and data into its folder; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DATA).write_text(results.model_dump_json(indent=1) + "\n", encoding="utf-8")
    outcomes = [[one.name.replace("_", " "), one.promise, one.told, ANSWERS[one.holds]] for one in results.outcomes]
    errors = [[one.name, kind, str(count)] for one in results.figures for kind, count in one.errors.items()]
    about = (
        f"{results.seconds:g} s after {results.warm_up:g} s of warm-up, {_when(results.began)} on {results.machine}, "
        f"load average {results.busy:g}. {results.started_per_second:.2f} runs a second were started, "
        f"{results.ended_per_second:.2f} ended."
    )
    page = _rendered(
        title=f"Load: {results.shape}, up to {results.rate:g} runs a second",
        style=ANSWERS[results.answer],
        answer=TOLD[results.answer],
        about=about,
        charts=_svg(f"Rates and latencies of the load {results.shape}", _course(loaded, objectives), 2.5),
        tables=[
            ("Objectives", ("objective", "promise", "seen", "answer"), outcomes),
            ("Figures", FIGURES, [_figures(one) for one in results.figures]),
            ("Errors", ("of", "kind", "how many"), errors),
        ],
        beside="Every entry is in entries.jsonl beside this page, the figures are in results.json.",
    )
    (folder / PAGE).write_text(page, encoding="utf-8")
    return folder / PAGE


def write_capacity(folder: Path, found: Capacity, objectives: Objectives, page: Path | None = None) -> Path:
    """Write page, chart and data of a search; renew `page` of the documentation with its chart beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DATA).write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
    svg = _svg("Latencies and failures by rate", _by_rate(found, objectives), 4)
    (folder / CHART).write_text(svg, encoding="utf-8")
    missing = [[f"{one.rate:g}", one.missing] for one in found.steps if one.missing]
    rendered = _rendered(
        title="Capacity",
        style="holds" if found.holds_at else "unknown",
        answer=answer_of(found),
        about=_measured(found),
        charts=svg,
        tables=[("Rates", STEPS, _steps(found)), ("Not measured", ("runs/s", "why"), missing)],
        beside="Every step has a folder beside this page, with its own report; the figures are in results.json.",
    )
    (folder / PAGE).write_text(rendered, encoding="utf-8")
    if page is not None:
        renew(page, as_markdown(found))
        (page.parent / "images" / CHART).write_text(svg, encoding="utf-8")
    return folder / PAGE


def answer_of(found: Capacity) -> str:
    """The capacity, in a sentence."""
    held, missed = found.holds_at, found.missed_at
    if held is None:
        return "no rate was found at which the objectives hold" + (f": at {missed:g} they don't" if missed else "")
    above = f", and not at {missed:g}" if missed is not None else "; no higher rate was tried"
    return f"The objectives hold at {held:g} runs a second{above}"


def as_markdown(found: Capacity) -> str:
    """The same for a page of documentation."""
    rows = [STEPS, ["---"] * len(STEPS), *_steps(found)]
    grid = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    missing = [f"- {one.rate:g} runs a second: not measured: {one.missing}" for one in found.steps if one.missing]
    return "\n\n".join([f"**{answer_of(found)}.** {_measured(found)}", grid, *missing]) + "\n"


def _course(loaded: Loaded, objectives: Objectives) -> list[Chart]:
    """Rates and latencies over the time of a load, its warm-up included."""
    began = loaded.since - loaded.load.warm_up
    width = loaded.load.whole_seconds / SLICES

    def sliced(name: str, moment: Callable[[Entry], float], failed: bool = False) -> list[tuple[float, list[Entry]]]:
        slices: dict[int, list[Entry]] = {}
        for entry in loaded.entries:
            if entry.name == name and (entry.error is not None) is failed:
                slices.setdefault(int((moment(entry) - began) / width), []).append(entry)
        return [((number + 0.5) * width, slices[number]) for number in sorted(slices) if number >= 0]

    def latencies(name: str) -> list[Line]:
        own = [(x, [entry.seconds for entry in seen]) for x, seen in sliced(name, lambda entry: entry.at)]
        return [
            Line(
                label, style, [_point(x, quantile(seconds, share) or 0.0, f"{x:.0f} s: {label}") for x, seconds in own]
            )
            for label, style, share in PERCENTILES
        ]

    def rate(label: str, style: str, own: Sequence[tuple[float, Sequence[Entry]]]) -> Line:
        rates = [(x, len(seen) / width) for x, seen in own]
        return Line(label, style, [(x, value, f"{x:.0f} s: {value:.2f} {label} a second") for x, value in rates])

    over = "seconds since the load began"
    begun, ended = sliced("start", lambda entry: entry.at), sliced("complete", lambda entry: entry.at + entry.seconds)
    rates = [rate("started", "low", begun), rate("ended", "high", ended)]
    wrong = [
        rate(label, style, sliced(name, lambda entry: entry.at + entry.seconds, failed=True))
        for name, label, style in (
            ("retry", "retried", "middle"),
            ("start", "not started", "bad"),
            ("complete", "failed", "high"),
        )
    ]
    return [
        Chart("Runs a second", f"in parts of {width:.1f} s", over, rates),
        _latency("Start", over, latencies("start"), objectives.start_latency),
        _latency("Completion", over, latencies("complete"), objectives.completion_latency),
        Chart("Went wrong, a second", f"in parts of {width:.1f} s", over, wrong),
    ]


def _by_rate(found: Capacity, objectives: Objectives) -> list[Chart]:
    """Latencies and failures over the rates that were measured."""
    measured = sorted((one.results for one in found.steps if one.results), key=lambda results: results.rate)

    def latencies(name: str) -> list[Line]:
        own = [(one.rate, one.of(name)) for one in measured]
        return [
            Line(label, style, [_point(rate, seen, f"{rate:g} a second: {label}") for rate, seen in seconds if seen])
            for label, style, _ in PERCENTILES
            if (seconds := [(rate, getattr(of, label)) for rate, of in own])
        ]

    def failures(name: str, label: str, style: str) -> Line:
        own = [(one.rate, one.of(name)) for one in measured]
        counts = [(rate, of.failed, of.ok + of.failed) for rate, of in own if of.ok + of.failed]
        return Line(
            label, style, [(rate, 100 * bad / of, f"{rate:g} a second: {bad} failed") for rate, bad, of in counts]
        )

    ended = [
        (
            one.rate,
            100 * one.ended_per_second / one.started_per_second,
            f"{one.rate:g} a second: {one.ended_per_second:.2f}",
        )
        for one in measured
        if one.started_per_second
    ]
    across = "runs started a second"
    failed = [failures("start", "starts", "low"), failures("complete", "runs", "bad")]
    return [
        _latency("Completion", across, latencies("complete"), objectives.completion_latency),
        _latency("Start", across, latencies("start"), objectives.start_latency),
        Chart("Failed", "percent", across, failed, "%"),
        Chart("Ended, of what was started", "percent", across, [Line("ended", "low", ended)], "%"),
    ]


def _latency(title: str, across: str, lines: Sequence[Line], objective: Latency) -> Chart:
    within = objective.within_seconds
    limits = [(within, f"objective: {within:g} s")]
    return Chart(title, "seconds, logarithmic", across, lines, " s", logarithmic=True, limits=limits)


def _point(x: float, seconds: float, told: str) -> tuple[float, float, str]:
    return x, seconds, f"{told} {_seconds(seconds)}"


def _svg(label: str, wanted: Sequence[Chart], radius: float) -> str:
    """Charts as one SVG that stands alone, two in a row."""
    places = [
        (number % 2 * (charts.WIDTH + 10), number // 2 * (charts.HEIGHT + 6), chart(one))
        for number, one in enumerate(wanted)
    ]
    return _environment().get_template("charts.svg.jinja").render(
        label=label,
        plots=places,
        width=2 * charts.WIDTH + 10,
        height=-(-len(wanted) // 2) * (charts.HEIGHT + 6),
        left=charts.LEFT,
        right=charts.WIDTH - charts.RIGHT,
        top=charts.TOP,
        floor=charts.HEIGHT - charts.BOTTOM,
        radius=radius,
    )  # fmt: skip


def _steps(found: Capacity) -> list[list[str]]:
    rows: list[list[str]] = []
    for step in sorted(found.steps, key=lambda step: step.rate):
        if (one := step.results) is None:
            continue
        start, end = one.of("start"), one.of("complete")
        times = [_seconds(value) for own in (start, end) for value in (own.p50, own.p95, own.p99)]
        rates = [f"{step.rate:g}", f"{one.started_per_second:.2f}", f"{one.ended_per_second:.2f}"]
        rows.append(
            [*rates, *times, str(start.failed + end.failed), f"{one.busy:g}", "holds" if step.holds else "missed"]
        )
    return rows


def _figures(one: Figures) -> list[str]:
    times = [_seconds(value) for value in (one.p50, one.p95, one.p99, one.worst)]
    return [one.name, str(one.ok), str(one.failed), *times]


def _measured(found: Capacity) -> str:
    return (
        f"Measured {_when(found.measured_at)} on {found.machine}: {found.seconds:g} s of each rate, after "
        f"{found.warm_up:g} s of warm-up."
    )


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(at))


def _rendered(**what: object) -> str:
    return _environment().get_template("page.html.jinja").render(**what)


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("loadtests.traffic", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
