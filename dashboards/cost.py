"""What models are asked for, in tokens, as workers count them; what they cost is a price times these."""

from __future__ import annotations

from dashboards.board import Board, Panel, Query, Row

COST = Board(
    "holdfast-cost",
    "Holdfast · cost",
    "What models are asked for, in tokens, as workers count them.",
    (
        Row(
            "Tokens",
            (
                Panel(
                    "A second",
                    "By model and direction.",
                    "short",
                    (
                        Query(
                            "sum by (model, direction) (rate(holdfast_tokens_total[$__rate_interval]))",
                            "{{model}} {{direction}}",
                        ),
                    ),
                ),
                Panel(
                    "In the last hour",
                    "By model and direction. Multiply by your provider's price.",
                    "short",
                    (
                        Query(
                            "sum by (model, direction) (increase(holdfast_tokens_total[1h]))",
                            "{{model}} {{direction}}",
                        ),
                    ),
                    now=True,
                ),
                Panel(
                    "For each run that ended",
                    "Both directions. It grows where runs take more turns, or fail late.",
                    "short",
                    (
                        Query(
                            "sum(increase(holdfast_tokens_total[5m]))"
                            " / clamp_min(sum(increase(holdfast_runs_ended_total[5m])), 1)"
                        ),
                    ),
                ),
                Panel(
                    "Model requests for each run that ended",
                    "Those that failed and were tried again included.",
                    "short",
                    (
                        Query(
                            'sum(increase(holdfast_steps_total{kind="model"}[5m]))'
                            " / clamp_min(sum(increase(holdfast_runs_ended_total[5m])), 1)"
                        ),
                    ),
                ),
            ),
        ),
    ),
)
