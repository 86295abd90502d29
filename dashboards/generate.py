"""Makes Grafana's JSON of the boards; the same boards always make the same text."""

from __future__ import annotations

from pathlib import Path

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef

from dashboards.bench import BENCH
from dashboards.board import Board, Panel
from dashboards.control_plane import CONTROL_PLANE
from dashboards.cost import COST
from dashboards.failover import FAILOVER
from dashboards.runs import RUNS
from dashboards.steps import STEPS

__all__ = ["BOARDS", "GENERATED", "text_of"]

BOARDS = (FAILOVER, RUNS, STEPS, COST, CONTROL_PLANE, BENCH)
GENERATED = Path(__file__).parent / "generated"
_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_HEIGHT = 8


def text_of(board: Board) -> str:
    """A board as Grafana imports it."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.about)
        .tags(["holdfast"])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .refresh("10s")
        .time("now-30m", "now")
        .timezone("browser")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for row in board.rows:
        made.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            made.with_panel(_panel(panel))
    return JSONEncoder(sort_keys=True, indent=1).encode(made.build()) + "\n"


def _panel(panel: Panel) -> stat.Panel | timeseries.Panel:
    made = stat.Panel() if panel.now else timeseries.Panel().fill_opacity(10).min(0)
    made.title(panel.title).description(panel.about).unit(panel.unit).datasource(_SOURCE)
    made.span(panel.width).height(_HEIGHT)
    for number, query in enumerate(panel.queries):
        target = prometheus.Dataquery().expr(query.expr).ref_id(chr(ord("A") + number)).datasource(_SOURCE)
        if query.legend:
            target.legend_format(query.legend)
        made.with_target(target.instant() if panel.now else target.range())
    return made
