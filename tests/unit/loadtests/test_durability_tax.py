"""The durability tax: what is measured of which cell, what is kept between calls, and how it is shown."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from holdfast.client import HistoryView, RunView, Start
from rich.console import Console

from infra.automation import DeploymentError
from infra.engine.progress import Failure
from loadtests.tax import __main__ as command
from loadtests.tax import measure as measuring
from loadtests.tax import regions as placing
from loadtests.tax.agent import Counting, hosted
from loadtests.tax.measure import Cell, Scale, UnmeasurableError, measure, merged, run_seconds
from loadtests.tax.regions import NotInForceError, Regions, Replication
from loadtests.tax.report import CHART, Results, as_markdown, chart, show, write_report
from loadtests.telling import BEGIN, END

pytestmark = pytest.mark.unit

SCALE = Scale(single_steps=4, repeats=2, burst_runs=3, burst_steps=2, bursts=1)


class Api:
    """An API whose runs end at once, each step having taken 10 ms."""

    def __init__(self) -> None:
        self.started: dict[str, int] = {}
        self.outcome, self.status, self.looks = "ok", "completed", iter(())

    def start(self, run_id: str, run_input: dict[str, int]) -> Start:
        self.started[run_id] = run_input["steps"]
        return Start(self.outcome, "a", "said so")  # pyright: ignore[reportArgumentType]

    def runs(self, status: str, id_contains: str) -> list[RunView]:
        return next(self.looks, [])

    def run(self, run_id: str) -> RunView:
        output = f"counted to {self.started[run_id]}"
        return RunView(run_id=run_id, status=self.status, accepted_at="", output=output, error="why")

    def history(self, run_id: str) -> list[HistoryView]:
        began = 4e9
        ends = {"executionStarted": began, "executionCompleted": began + self.started[run_id] * 0.01}
        return [
            HistoryView(sequence=0, type=kind, timestamp=datetime.fromtimestamp(at, UTC).isoformat())
            for kind, at in ends.items()
        ]


class Placed:
    """Regions that are where they are told to be."""

    def __init__(self) -> None:
        self.client, self.epochs = Api(), iter(())
        self.set_to: list[tuple[int, str]] = []

    def set(self, round_trip_ms: int, replication: Replication) -> float:
        self.set_to.append((round_trip_ms, replication))
        if round_trip_ms == 150:
            raise NotInForceError("it stayed near")
        return round_trip_ms + 1.5

    def epoch(self) -> int:
        return next(self.epochs, 1)


def said(line: str) -> None:
    assert line


def test_every_distance_is_measured_with_every_replication() -> None:
    placed = Placed()
    cells = list(measure(placed, [0, 20], ["synchronous", "asynchronous"], SCALE, said))  # pyright: ignore[reportArgumentType]
    assert placed.set_to == [(0, "synchronous"), (0, "asynchronous"), (20, "synchronous"), (20, "asynchronous")]
    assert [len(cell.ms_per_step) for cell in cells] == [2, 2, 2, 2]
    assert cells[0].ms_per_step == pytest.approx([10.0, 10.0], abs=0.01)
    assert [len(cell.runs_per_second) for cell in cells] == [1, 1, 1, 1]
    assert (cells[3].handshake_ms, cells[3].missing) == (21.5, None)
    assert all(cell.load is not None for cell in cells)
    assert list(placed.client.started.values())[:8] == [3] * 8


def test_what_can_not_be_measured_says_why_and_the_rest_goes_on() -> None:
    cells = list(measure(Placed(), [150, 0], ["synchronous"], SCALE, said))  # pyright: ignore[reportArgumentType]
    assert [cell.missing for cell in cells] == ["it stayed near", None]
    assert cells[0].ms_per_step == []


def test_a_failover_meanwhile_makes_a_cell_worth_nothing() -> None:
    placed = Placed()
    placed.epochs = iter((1, 2, 2))
    (cell,) = measure(placed, [0], ["synchronous"], SCALE, said)  # pyright: ignore[reportArgumentType]
    assert cell.missing == "the active region changed meanwhile: epoch 1, then 2"


def test_a_run_counts_only_if_it_did_what_it_was_started_for(monkeypatch: pytest.MonkeyPatch) -> None:
    placed = Placed()
    open_run = RunView(run_id="tax-1", status="running", accepted_at="")
    placed.client.looks = iter(([open_run], []))
    assert run_seconds(placed, 1, 2)[1] == pytest.approx([0.02], abs=0.001)  # pyright: ignore[reportArgumentType]
    placed.client.status = "failed"
    with pytest.raises(UnmeasurableError, match="is failed: why"):
        run_seconds(placed, 1, 2)  # pyright: ignore[reportArgumentType]
    placed.client.outcome = "refused"
    with pytest.raises(UnmeasurableError, match="a start was refused: said so"):
        run_seconds(placed, 1, 2)  # pyright: ignore[reportArgumentType]
    placed.client.outcome = "ok"
    monkeypatch.setattr(measuring, "END_SECONDS", -1.0)
    placed.client.looks = iter([[open_run]] * 3)
    with pytest.raises(UnmeasurableError, match="1 runs had not ended after -1 s, tax-1 is one"):
        run_seconds(placed, 1, 2)  # pyright: ignore[reportArgumentType]


def cell(round_trip: int, replication: Replication, *steps: float, missing: str | None = None) -> Cell:
    rates = [100 / value for value in steps]
    return Cell(
        round_trip_ms=round_trip,
        replication=replication,
        scale=SCALE,
        measured_at=86_400.0 * (1 + round_trip),
        handshake_ms=round_trip + 2.4,
        load=3.2,
        ms_per_step=list(steps),
        runs_per_second=rates,
        missing=missing,
    )


CELLS = [
    cell(0, "synchronous", 20.0, 22.0, 30.0),
    cell(0, "asynchronous", 20.0),
    cell(20, "synchronous", 88.0),
    cell(20, "asynchronous", missing="the link <a-b> was gone"),
]


def test_a_cell_that_is_measured_again_takes_the_place_of_the_older_one() -> None:
    newer = cell(20, "synchronous", 99.0)
    found = merged([CELLS[2], CELLS[1]], [newer, CELLS[0]])
    assert [(one.round_trip_ms, one.replication) for one in found] == [
        (0, "synchronous"),
        (0, "asynchronous"),
        (20, "synchronous"),
    ]
    assert found[-1].ms_per_step == [99.0]


def test_documentation_gets_medians_with_their_range_and_what_distance_costs() -> None:
    text = as_markdown(CELLS)
    assert text.startswith("Measured 1970-01-02 to 1970-01-22 on ")
    assert ": one run of 4 steps 2 times, 3 runs of 2 steps at once 1 times.\n" in text
    assert "| 0 ms | synchronous | 22.0 (20.0 to 30.0) | 1.0× | 4.55 (3.33 to 5.00) | 2 ms | 3 |" in text
    assert "| 20 ms | synchronous | 88.0 | 4.0× | 1.14 | 22 ms | 3 |" in text
    assert "| 20 ms | asynchronous |  |  |  | 22 ms | 3 |" in text
    assert "- Not measured: 20 ms, asynchronous: the link <a-b> was gone" in text
    assert as_markdown([]).startswith("Measured never on ")


def test_the_chart_stands_alone_and_shows_both_figures() -> None:
    text = chart(CELLS)
    drawn = ElementTree.fromstring(text)  # noqa: S314 - our own
    titles = [one.text for one in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert "synchronous, 20 ms round trip: 88.00" in titles
    assert len(titles) == 6
    assert "NaN" not in text
    assert ElementTree.fromstring(chart([])).tag.endswith("svg")  # noqa: S314 - our own


def test_labels_do_not_lie_upon_each_other() -> None:
    drawn = ElementTree.fromstring(chart(CELLS[:2]))  # noqa: S314 - our own
    places = [float(one.get("y", "")) for one in drawn.iter() if one.get("class") == "name"]
    assert len(places) == 4
    assert all(abs(first - second) >= 16 for first, second in (places[:2], places[2:]))


def test_what_was_measured_is_kept_and_the_page_is_renewed(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "durability-tax.md"
    (tmp_path / "docs" / "images").mkdir(parents=True)
    page.write_text(f"# Tax\n{BEGIN}\nold\n{END}\nend\n")
    written = write_report(tmp_path / "results", CELLS, page)
    assert Results.load(written.parent).cells == CELLS
    assert Results.load(tmp_path).cells == []
    assert "old" not in page.read_text()
    assert "| 20 ms | synchronous | 88.0 |" in page.read_text()
    assert (tmp_path / "docs" / "images" / CHART).read_text() == (written.parent / CHART).read_text()
    html = written.read_text()
    assert "&lt;a-b&gt;" in html
    assert "<svg" in html
    assert "http" not in html.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")


def test_a_terminal_is_shown_the_cells(capsys: pytest.CaptureFixture[str]) -> None:
    show(Console(width=160), CELLS)
    shown = capsys.readouterr().out
    assert "88.0" in shown
    assert "not measured: 20 ms, asynchronous" in shown


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """Calls of a measurement that finds what is in CELLS."""
    calls: list[tuple[object, ...]] = []

    @contextlib.contextmanager
    def made(state: Path) -> Generator[None]:
        yield

    def found(regions: None, apart: list[int], kinds: list[Replication], scale: Scale, say: object) -> Iterator[Cell]:
        calls.append((apart, kinds, scale))
        for one in CELLS:
            if one.round_trip_ms in apart and one.replication in kinds:
                if one.replication == "asynchronous" and scale is command.QUICK:
                    raise KeyboardInterrupt
                yield one

    monkeypatch.setattr(command, "regions", made)
    monkeypatch.setattr(command, "measure", found)
    return calls


def test_the_whole_can_be_measured_in_pieces(tmp_path: Path, measured: list[tuple[object, ...]]) -> None:
    state = ["--state", str(tmp_path)]
    assert command.main([*state, "--round-trip", "0"]) == 0
    assert command.main([*state, "--round-trip", "20", "--replication", "synchronous", "--json"]) == 0
    assert [call[:2] for call in measured] == [([0], ["synchronous", "asynchronous"]), ([20], ["synchronous"])]
    kept = Results.load(tmp_path / "benchmarks" / "tax").cells
    assert kept == CELLS[:3]
    assert command.main([*state, "--round-trip", "none"]) == 0
    assert command.main([*state, "--round-trip", "0", "--fresh"]) == 0
    assert Results.load(tmp_path / "benchmarks" / "tax").cells == CELLS[:2]


def test_what_was_measured_before_an_interrupt_is_kept(tmp_path: Path, measured: list[tuple[object, ...]]) -> None:
    assert command.main(["--state", str(tmp_path), "--round-trip", "0", "--quick"]) == 2
    assert Results.load(tmp_path / "benchmarks" / "tax").cells == CELLS[:1]


def test_programs_get_one_object(
    tmp_path: Path, measured: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--state", str(tmp_path), "--round-trip", "0", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["cells"]) == 2


def test_what_is_missing_has_an_exit_code(tmp_path: Path, measured: list[tuple[object, ...]]) -> None:
    assert command.main(["--state", str(tmp_path), "--round-trip", "0,20"]) == 2
    assert command.main(["--state", str(tmp_path / "none"), "--round-trip", "none"]) == 2


@pytest.mark.parametrize(
    "error", [DeploymentError("holdfast up", [Failure("region-a", "no disk")], "repeat it"), KeyboardInterrupt()]
)
def test_regions_that_can_not_be_made_are_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
) -> None:
    @contextlib.contextmanager
    def fails(state: Path) -> Iterator[None]:
        raise error
        yield

    monkeypatch.setattr(command, "regions", fails)
    assert command.main(["--state", str(tmp_path)]) == 2
    assert ("no disk" in capsys.readouterr().err) == isinstance(error, DeploymentError)


@pytest.mark.parametrize(
    "arguments",
    [["--round-trip", "far"], ["--round-trip", "-1"], ["--replication", "quantum"], ["--page", "none.md"]],
)
def test_input_that_is_wrong_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        command.main(arguments)
    assert refused.value.code == 2
    assert "error: argument" in capsys.readouterr().err


def test_the_agent_counts_as_far_as_it_is_told() -> None:
    agent = hosted.build_agent(model="", model_latency_seconds=0.0, effects=None)
    hosted.warm_up()
    value = Counting(steps=3)
    assert agent.run_sync(hosted.prompt(value), deps=hosted.deps(value)).output == "counted to 3"


def status(active: str | None, role: str, streaming: bool = True) -> SimpleNamespace:
    regions = [
        SimpleNamespace(name="a", role="active", epoch=7, database=SimpleNamespace(role="leader", streaming=True)),
        SimpleNamespace(name="b", role="standby", epoch=7, database=SimpleNamespace(role=role, streaming=streaming)),
    ]
    return SimpleNamespace(active=active, regions=regions, region=lambda name: regions["ab".index(name)])


class Web:
    """Notes what is asked of a service, which says yes to everything."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, object]] = []

    def post(self, url: str, json: object = None) -> Web:
        self.asked.append((url, json))
        return self

    patch = post

    def raise_for_status(self) -> None:
        pass


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Regions:
    """Regions whose services are only noted; the standby is synchronous, and a handshake takes 60 ms."""
    made = Regions.__new__(Regions)
    links = [SimpleNamespace(name="a-b.patroni"), SimpleNamespace(name="w-a.etcd-peer")]
    manifest = SimpleNamespace(
        wan=SimpleNamespace(links=links), regions={"a": SimpleNamespace(patroni="https://a.patroni")}
    )
    made.__dict__.update(_manifest=manifest, _doors=None, _toxiproxy=Web(), _patroni=Web())
    monkeypatch.setattr(placing, "observe", lambda *_: status("a", "sync_standby"))
    monkeypatch.setattr(placing, "SETTLE_SECONDS", 0.2)
    monkeypatch.setattr(made, "handshake_ms", lambda: 60.0)
    return made


def test_a_distance_is_half_there_and_half_back_on_every_link(far: Regions) -> None:
    assert far.set(41, "synchronous") == 60.0
    toxiproxy, patroni = far.__dict__["_toxiproxy"].asked, far.__dict__["_patroni"].asked
    assert toxiproxy[0] == ("/reset", None)
    assert [(url, body["stream"], body["attributes"]) for url, body in toxiproxy[1:]] == [
        ("/proxies/a-b.patroni/toxics", "upstream", {"latency": 20}),
        ("/proxies/a-b.patroni/toxics", "downstream", {"latency": 21}),
        ("/proxies/w-a.etcd-peer/toxics", "upstream", {"latency": 20}),
        ("/proxies/w-a.etcd-peer/toxics", "downstream", {"latency": 21}),
    ]
    assert patroni == [("https://a.patroni/config", {"synchronous_mode": True})]
    assert far.epoch() == 7


def test_a_distance_that_is_not_seen_is_not_in_force(far: Regions) -> None:
    with pytest.raises(NotInForceError, match="a handshake took 60 ms over a link of 150 ms round trip"):
        far.set(150, "synchronous")
    with pytest.raises(NotInForceError, match="a handshake took 60 ms over a link of 0 ms round trip"):
        far.set(0, "synchronous")


def test_a_replication_that_is_not_seen_is_not_in_force(far: Regions) -> None:
    with pytest.raises(NotInForceError, match=r"a standby that is asynchronous; last seen: .* database sync_standby"):
        far.set(60, "asynchronous")
