"""Dashboards are what the code says, and each panel says what it shows, of what, in which unit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards import __main__ as command
from dashboards import generate
from dashboards.generate import BOARDS, GENERATED, text_of
from tests.support.dashboards import committed, panels

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]
SHOWN = [(board["title"], panel) for board in committed() for panel in panels(board)]
EXPRESSIONS = [target["expr"] for _, panel in SHOWN for target in panel["targets"]]


def test_what_is_committed_is_what_the_code_makes() -> None:
    made = {f"{board.uid}.json": text_of(board) for board in BOARDS}
    assert {path.name: path.read_text(encoding="utf-8") for path in GENERATED.iterdir()} == made, (
        "run `python -m dashboards` and commit what it writes"
    )


def test_the_command_writes_every_board_and_leaves_none_that_is_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "GENERATED", tmp_path)
    (tmp_path / "old.json").write_text("{}", encoding="utf-8")
    assert command.main() == 0
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in generate.GENERATED.iterdir()}


@pytest.mark.parametrize("board", committed(), ids=lambda board: board["title"])
def test_a_board_asks_whichever_prometheus_is_chosen(board: dict[str, Any]) -> None:
    (variable,) = board["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")
    for panel in panels(board):
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert board["description"]


@pytest.mark.parametrize(
    ("board", "panel"), SHOWN, ids=lambda value: value if isinstance(value, str) else value["title"]
)
def test_a_panel_has_a_title_an_explanation_a_unit_and_a_place(board: str, panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith("."), board
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["gridPos"]["w"] > 0
    legends = [target.get("legendFormat") for target in panel["targets"]]
    assert len(set(legends)) == len(legends)


def test_no_two_panels_of_a_board_stand_in_the_same_place() -> None:
    for board in committed():
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels(board)]
        assert len(set(places)) == len(places), board["title"]


@pytest.mark.parametrize("expr", [one for one in EXPRESSIONS if re.search(r"rate\(|increase\(", one)])
def test_what_is_counted_over_a_time_is_counted_over_enough_scrapes(expr: str) -> None:
    for interval in re.findall(r"\[([^\]]+)\]", expr):
        assert interval in ("$__rate_interval", "5m", "1h")


def test_every_alert_has_words_a_severity_and_a_runbook() -> None:
    pages = {path.name for path in (ROOT / "runbooks").glob("*.md")}
    names: list[str] = []
    for path in (ROOT / "dashboards" / "rules").glob("*.yaml"):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for rule in (one for one in group["rules"] if "alert" in one):
                names.append(rule["alert"])
                assert rule["labels"]["severity"] in ("none", "page", "ticket"), rule["alert"]
                assert rule["annotations"]["summary"], rule["alert"]
                assert rule["annotations"]["description"], rule["alert"]
                folder, _, page = rule["annotations"]["runbook_url"].partition("/")
                assert folder == "runbooks"
                assert page in pages or not pages, f"{rule['alert']}: there is no {page}"
    assert len(set(names)) == len(names)


# What grafana/dashboard-linter demands and is not demanded above. Its rules for `job` and `instance` are not held:
# a board is of a whole deployment, whose label is `region`, and its panels compare processes and regions.


def test_the_choice_of_a_prometheus_is_labelled_as_grafana_s_own() -> None:
    assert {board["templating"]["list"][0]["label"] for board in committed()} == {"Data source"}


def test_a_board_is_changed_in_the_code_and_not_in_grafana() -> None:
    assert not any(board["editable"] for board in committed())


def test_a_panel_asks_something() -> None:
    assert all(panel["targets"] for _, panel in SHOWN)


WHOLE_COUNTS = {
    "etcd_server_leader_changes_seen_total",
    "etcd_server_proposals_failed_total",
    "holdfast_effects_total",
    "holdfast_runs_swept_total",
    "pg_stat_database_conflicts_total",
    "pg_stat_database_deadlocks_total",
}
"""Counters of rare things, of which a panel shows how many there ever were: a rate of them is nothing nearly always."""


@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_a_counter_is_shown_by_its_growth_unless_what_it_counts_is_rare(expr: str) -> None:
    as_it_is = re.findall(r"\b(\w+_total)\b(?!(?:\{[^}]*\})?\[)", expr)
    assert set(as_it_is) <= WHOLE_COUNTS
