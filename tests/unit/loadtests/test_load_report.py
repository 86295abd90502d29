"""A load's page and a capacity's: whole in themselves, with every figure that was measured."""

from __future__ import annotations

import itertools
from pathlib import Path
from xml.etree import ElementTree

import pytest

from loadtests.telling import BEGIN, END
from loadtests.traffic.charts import HEIGHT, WIDTH, Chart, Line, chart
from loadtests.traffic.entries import Entry
from loadtests.traffic.locusts import Load, Loaded
from loadtests.traffic.objectives import read_slo
from loadtests.traffic.report import CHART, DATA, answer_of, as_markdown, write_capacity, write_load
from loadtests.traffic.results import Capacity, Results, Step, results_of

pytestmark = pytest.mark.unit
OBJECTIVES = read_slo().objectives


def load(rate: float, slow: bool = False) -> tuple[Loaded, Results]:
    """Twenty seconds of a load, with one failure that somebody tries to write markup with."""
    entries = [Entry(name="list", at=0, seconds=0.01)]
    for number in range(round(20 * rate)):
        at = number / rate
        entries.append(Entry(name="start", at=at, seconds=2.0 if slow else 0.05 + number / 1000))
        entries.append(Entry(name="complete", at=at + 0.1, seconds=1.5))
        entries.append(Entry(name="freshness", at=at, seconds=0.0))
    entries.append(Entry(name="retry", at=6, seconds=0.1, error="503"))
    entries.append(Entry(name="approve", at=6, seconds=0.2, error="<b>503</b>"))
    made = Loaded(Load("steady", rate, 15, 5), 5, 20, 1.5, entries)
    return made, results_of(made, OBJECTIVES)


def capacity(*steps: tuple[float, bool]) -> Capacity:
    found = [Step(rate=rate, results=load(rate, slow)[1]) for rate, slow in steps]
    return Capacity(machine="2 cores", measured_at=1.8e9, seconds=15, warm_up=5, steps=found)


def rows(page: str) -> list[list[str]]:
    tables = ElementTree.fromstring(_tables(page))  # noqa: S314
    return [[cell.text or "" for cell in row.iter("td")] for row in tables.iter("tr")]


def _tables(page: str) -> str:
    cut = page[page.index("<h2>") : page.rindex("</section>") + len("</section>")]
    return f"<all>{cut}</all>"


def test_a_load_s_page_has_its_objectives_figures_and_errors(tmp_path: Path) -> None:
    page = write_load(tmp_path / "new", *load(2), OBJECTIVES).read_text()
    found = rows(page)
    assert ["start latency", "99 % within 1 s", "100.00 % of 30", "holds"] in found
    assert ["start", "30", "0", "74 ms", "88 ms", "89 ms", "89 ms"] in found
    assert ["approve", "<b>503</b>", "1"] in found
    assert "Every objective holds" in page
    assert "<title>6 s: 1.50 retried a second</title>" in page
    assert Results.model_validate_json((tmp_path / "new" / DATA).read_bytes()).of("start").ok == 30


def test_a_load_s_page_fetches_nothing(tmp_path: Path) -> None:
    page = write_load(tmp_path, *load(2), OBJECTIVES).read_text()
    assert "default-src 'none'" in page
    assert "<b>503" not in page
    assert not any(word in page for word in ("<script", "<link", "<img", "src="))


def test_a_missed_objective_is_told_first(tmp_path: Path) -> None:
    page = write_load(tmp_path, *load(2, slow=True), OBJECTIVES).read_text()
    assert '<p class="answer missed">An objective is missed</p>' in page


def test_a_capacity_s_page_has_every_rate(tmp_path: Path) -> None:
    found = capacity((1, False), (2, False), (4, True))
    page = write_capacity(tmp_path, found, OBJECTIVES).read_text()
    assert [row[0] for row in rows(page) if row] == ["1", "2", "4"]
    assert [row[-1] for row in rows(page) if row] == ["holds", "holds", "missed"]
    assert "The objectives hold at 2 runs a second, and not at 4" in page
    assert Capacity.model_validate_json((tmp_path / DATA).read_bytes()) == found
    drawn = ElementTree.fromstring((tmp_path / CHART).read_text())  # noqa: S314
    assert drawn.tag.endswith("svg")
    titles = [one.text for one in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert "4 a second: p99 1.50 s" in titles


def test_a_page_of_documentation_gets_the_results_and_the_chart(tmp_path: Path) -> None:
    page, images = tmp_path / "docs" / "capacity.md", tmp_path / "docs" / "images"
    images.mkdir(parents=True)
    page.write_text(f"# Capacity\n{BEGIN}\nof earlier\n{END}\nend\n")
    write_capacity(tmp_path / "report", capacity((1, False), (2, True)), OBJECTIVES, page)
    text = page.read_text()
    assert "of earlier" not in text
    assert "**The objectives hold at 1 runs a second, and not at 2.** Measured 2027-01-15 08:00 on 2 cores" in text
    assert "| 2 | 2.00 | 2.00 | 2.00 s | 2.00 s |" in text
    assert (images / CHART).exists()


def test_what_was_not_found_or_not_measured_is_said(tmp_path: Path) -> None:
    assert answer_of(capacity((1, False))) == "The objectives hold at 1 runs a second; no higher rate was tried"
    assert answer_of(capacity((1, True))).endswith("at 1 they don't")
    lost = Capacity(machine="", measured_at=0, seconds=1, warm_up=1, steps=[Step(rate=3, missing="Locust ended")])
    assert "3 runs a second: not measured: Locust ended" in as_markdown(lost)
    assert "Locust ended" in write_capacity(tmp_path, lost, OBJECTIVES).read_text()


@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.parametrize("values", [[0.004, 25.0], [3.0], [1.0, 1.0], [0.0, 5.0], [0.5, 123456.0]])
def test_everything_that_is_drawn_lies_within_its_chart(values: list[float], logarithmic: bool) -> None:
    points = [(float(at), value, "") for at, value in enumerate(values)]
    drawn = chart(Chart("t", "n", "x", [Line("p50", "low", points)], "", logarithmic, [(2.0, "limit")]))
    placed = [(mark.x, mark.y) for line in drawn.lines for mark in line.marks]
    assert len(placed) == sum(value > 0 or not logarithmic for value in values)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in placed)
    assert all(0 <= y <= HEIGHT for y, _ in [*drawn.up, *drawn.limits])
    assert 2 <= len(drawn.up) <= 13


def test_a_chart_without_points_can_be_drawn() -> None:
    drawn = chart(Chart("t", "n", "x", [Line("p50", "low", [])]))
    assert drawn.lines == drawn.across == []
    assert drawn.up


def test_labels_do_not_lie_upon_each_other() -> None:
    lines = [Line(name, "low", [(1.0, 5.0, "")]) for name in ("p50", "p95", "p99")]
    places = [line.label_y for line in chart(Chart("t", "n", "x", lines)).lines]
    assert [after - before for before, after in itertools.pairwise(places)] == [15, 15]
