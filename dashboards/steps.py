"""Model requests and tool calls: how many, how many fail, how long they take, and what was executed again."""

from __future__ import annotations

from dashboards.board import Board, Panel, Query, Row

STEPS = Board(
    "holdfast-steps",
    "Holdfast · steps",
    "Model requests and tool calls: how many, how many fail, how long they take, and what was executed again.",
    (
        Row(
            "Steps",
            (
                Panel(
                    "Executed",
                    "By kind and name.",
                    "reqps",
                    (
                        Query(
                            "sum by (kind, name) (rate(holdfast_steps_total[$__rate_interval]))",
                            "{{kind}} {{name}}",
                        ),
                    ),
                ),
                Panel(
                    "Failed",
                    "Of those executed. They are tried again where that may help.",
                    "percentunit",
                    (
                        Query(
                            '(sum by (kind) (rate(holdfast_steps_total{outcome="error"}[$__rate_interval]))'
                            " or 0 * sum by (kind) (rate(holdfast_steps_total[$__rate_interval])))"
                            " / clamp_min(sum by (kind) (rate(holdfast_steps_total[$__rate_interval])), 1e-9)",
                            "{{kind}}",
                        ),
                    ),
                ),
                Panel(
                    "How long they take",
                    "The 95th percentile, by kind and name.",
                    "s",
                    (
                        Query(
                            "histogram_quantile(0.95, "
                            "sum by (le, kind, name) (rate(holdfast_step_seconds_bucket[$__rate_interval])))",
                            "{{kind}} {{name}}",
                        ),
                    ),
                ),
                Panel(
                    "Under way",
                    "By worker.",
                    "short",
                    (Query("sum by (region, instance) (holdfast_steps_running)", "{{region}} {{instance}}"),),
                ),
            ),
        ),
        Row(
            "Executed again",
            (
                Panel(
                    "After a first execution",
                    "What failed and was tried again. What was in flight at a fault runs under its old number.",
                    "short",
                    (
                        Query(
                            "sum by (kind) (increase(holdfast_steps_again_total[$__rate_interval]))"
                            " or 0 * sum by (kind) (rate(holdfast_steps_total[$__rate_interval]))",
                            "{{kind}}",
                        ),
                    ),
                ),
                Panel(
                    "Delivered twice, executed once",
                    "Second deliveries that joined the execution that was running.",
                    "short",
                    (
                        Query(
                            "sum by (region) (increase(holdfast_deliveries_joined_total[$__rate_interval]))",
                            "{{region}}",
                        ),
                    ),
                ),
                Panel(
                    "Effects, as the outside world counts them",
                    "Applied once each; duplicates were asked for again; stale ones came from an older epoch.",
                    "short",
                    (Query("sum by (outcome) (holdfast_effects_total)", "{{outcome}}"),),
                ),
                Panel(
                    "Workflow activities in Dapr",
                    "By what became of them.",
                    "reqps",
                    (
                        Query(
                            "sum by (status) (rate(dapr_runtime_workflow_activity_execution_count[$__rate_interval]))",
                            "{{status}}",
                        ),
                    ),
                ),
            ),
        ),
    ),
)
