"""Runs and the API by rate, errors and duration."""

from __future__ import annotations

from dashboards.board import Board, Panel, Query, Row

_STARTS = 'job="api", method="POST", route="/v1/runs"'

RUNS = Board(
    "holdfast-runs",
    "Holdfast · runs",
    "Runs and the API by rate, errors and duration.",
    (
        Row(
            "Runs",
            (
                Panel(
                    "Open",
                    "Accepted and not ended.",
                    "short",
                    (Query("max by (region) (holdfast_runs_open)", "{{region}}"),),
                    now=True,
                    width=6,
                ),
                Panel(
                    "Stuck",
                    "Open and without progress for longer than `stuck_after_seconds`.",
                    "short",
                    (Query("sum by (region) (holdfast_runs_stuck)", "{{region}}"),),
                    now=True,
                    width=6,
                ),
                Panel(
                    "Ended",
                    "By status.",
                    "reqps",
                    (Query("sum by (status) (rate(holdfast_runs_ended_total[$__rate_interval]))", "{{status}}"),),
                ),
                Panel(
                    "Failed of those that ended",
                    "A model outage is a failed run, never a completed one.",
                    "percentunit",
                    (
                        Query(
                            '(sum(rate(holdfast_runs_ended_total{status="failed"}[$__rate_interval])) or vector(0))'
                            " / clamp_min(sum(rate(holdfast_runs_ended_total[$__rate_interval])), 1e-9)"
                        ),
                    ),
                ),
                Panel(
                    "From acceptance to the end",
                    "Runs that wait for a person are among them.",
                    "s",
                    tuple(
                        Query(
                            f"histogram_quantile({quantile}, "
                            "sum by (le) (rate(holdfast_run_seconds_bucket[$__rate_interval])))",
                            f"p{quantile * 100:g}",
                        )
                        for quantile in (0.5, 0.95, 0.99)
                    ),
                ),
            ),
        ),
        Row(
            "The list of runs",
            (
                Panel(
                    "Until a run that has ended is listed so",
                    "The region agent looks each second, and more seldom where a look takes long.",
                    "s",
                    tuple(
                        Query(
                            f"histogram_quantile({quantile}, "
                            "sum by (le) (rate(holdfast_run_closing_seconds_bucket[$__rate_interval])))",
                            f"p{quantile * 100:g}",
                        )
                        for quantile in (0.5, 0.99)
                    ),
                ),
                Panel(
                    "Signals to open runs",
                    "Raised after an activation, and again on those that do not move.",
                    "short",
                    (Query("sum by (region) (increase(holdfast_runs_swept_total[$__rate_interval]))", "{{region}}"),),
                ),
            ),
        ),
        Row(
            "Starts",
            (
                Panel(
                    "Asked for",
                    "By answer: 202 accepted, 200 known already, 503 not the active region, 429 too many.",
                    "reqps",
                    (
                        Query(
                            f"sum by (status) (rate(holdfast_http_requests_total{{{_STARTS}}}[$__rate_interval]))",
                            "{{status}}",
                        ),
                    ),
                ),
                Panel(
                    "Until it is acknowledged",
                    "An acknowledged start is in both regions.",
                    "s",
                    tuple(
                        Query(
                            f"histogram_quantile({quantile}, sum by (le) "
                            f"(rate(holdfast_http_request_seconds_bucket{{{_STARTS}}}[$__rate_interval])))",
                            f"p{quantile * 100:g}",
                        )
                        for quantile in (0.5, 0.95, 0.99)
                    ),
                ),
            ),
        ),
        Row(
            "The whole API",
            (
                Panel(
                    "Requests",
                    "By region and route.",
                    "reqps",
                    (
                        Query(
                            'sum by (region, route) (rate(holdfast_http_requests_total{job="api"}[$__rate_interval]))',
                            "{{region}} {{route}}",
                        ),
                    ),
                ),
                Panel(
                    "Failed",
                    "Answers of 500 and above, of all. A standby answers 503.",
                    "percentunit",
                    (
                        Query(
                            "(sum by (region) "
                            '(rate(holdfast_http_requests_total{job="api", status=~"5.."}[$__rate_interval]))'
                            ' or 0 * sum by (region) (rate(holdfast_http_requests_total{job="api"}[$__rate_interval])))'
                            " / clamp_min(sum by (region) "
                            '(rate(holdfast_http_requests_total{job="api"}[$__rate_interval])), 1e-9)',
                            "{{region}}",
                        ),
                    ),
                ),
            ),
        ),
    ),
)
