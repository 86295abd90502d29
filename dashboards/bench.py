"""What an experiment does to a deployment: the lines between the sites, the world outside, and who looks on."""

from __future__ import annotations

from dashboards.board import Board, Panel, Query, Row

BENCH = Board(
    "holdfast-bench",
    "Holdfast · bench",
    "What an experiment does to a deployment: the lines between the sites, the world outside, and who looks on.",
    (
        Row(
            "Between the sites",
            (
                Panel(
                    "What the lines carry",
                    "By link. A cut line carries nothing.",
                    "Bps",
                    (
                        Query(
                            "sum by (proxy) (rate(toxiproxy_proxy_received_bytes_total[$__rate_interval]))",
                            "{{proxy}}",
                        ),
                    ),
                ),
                Panel(
                    "Parts that do not answer",
                    "By region and part, sidecars of a standby among them.",
                    "short",
                    (Query("count by (region, job) (up == 0)", "{{region}} {{job}}"),),
                ),
            ),
        ),
        Row(
            "Outside",
            (
                Panel(
                    "Effects",
                    "Attempts by what became of them. `applied` is what happened.",
                    "reqps",
                    (Query("sum by (outcome) (rate(holdfast_effects_total[$__rate_interval]))", "{{outcome}}"),),
                ),
                Panel(
                    "What the model's providers answer",
                    "By status, as the simulated ones count.",
                    "reqps",
                    (
                        Query(
                            'sum by (status) (rate(holdfast_http_requests_total{job="outside", instance="provider"}'
                            "[$__rate_interval]))",
                            "{{status}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Who looks on",
            (
                Panel(
                    "Until a part has told its metrics",
                    "The slowest of each kind.",
                    "s",
                    (Query("max by (job) (scrape_duration_seconds)", "{{job}}"),),
                ),
                Panel(
                    "What Prometheus costs",
                    "In whole processors.",
                    "none",
                    (Query('rate(process_cpu_seconds_total{job="prometheus"}[$__rate_interval])', "prometheus"),),
                ),
                Panel(
                    "Alerts",
                    "That fire, or are about to.",
                    "short",
                    (Query("sum by (alertname, alertstate) (ALERTS)", "{{alertname}} {{alertstate}}"),),
                ),
                Panel(
                    "Series",
                    "In Prometheus's memory.",
                    "short",
                    (Query("prometheus_tsdb_head_series", "series"),),
                ),
            ),
        ),
    ),
)
