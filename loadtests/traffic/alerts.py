"""Prometheus's rules for the objectives: how fast each error budget is spent, and an alert where it is too fast.

`python -m loadtests.traffic.alerts` writes them to `dashboards/rules/slo.yaml`, from where the deployment's Prometheus
takes its rules; `--check` only says whether that file is what slo.yaml demands. Exit codes: 0 it is, 1 it is not,
2 slo.yaml was refused.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import yaml
from pydantic import JsonValue

from infra.state import project_root
from loadtests.traffic.objectives import OBJECTIVES, SLO, BurnRate, Latency, ObjectiveName, Slo, SloError, read_slo

__all__ = ["ALERTS", "INDICATORS", "Indicator", "rules", "rules_of"]

ALERTS = project_root() / "dashboards" / "rules" / "slo.yaml"
RECORD = "holdfast:slo_errors:ratio"
_HEADER = "# Made of loadtests/slo.yaml by `python -m loadtests.traffic.alerts`; change that, and make this anew.\n"
_START = 'method="POST",route="/v1/runs"'


@dataclass(frozen=True)
class Indicator:
    """The series that tell of an objective: a counter with labels for all and for bad ones, or a histogram."""

    metric: str
    labels: str
    what: str
    bad: str | None = None
    """Further labels of a counter's bad ones. A histogram has none: what is slower than the objective is bad."""

    def errors(self, within: float | None, window: str) -> str:
        """The share of bad ones over a window."""
        if self.bad is not None:
            bad = f"{self.metric}{{{_joined(self.labels, self.bad)}}}"
            # Where nothing was bad there is no series of it.
            return (
                f"(sum(rate({bad}[{window}])) or vector(0)) / sum(rate({self.metric}{_braced(self.labels)}[{window}]))"
            )
        bound = f'le="{float(within or 0)}"'
        good = f"{self.metric}_bucket{{{_joined(self.labels, bound)}}}"
        return f"1 - sum(rate({good}[{window}])) / sum(rate({self.metric}_count{_braced(self.labels)}[{window}]))"


INDICATORS: dict[ObjectiveName, Indicator] = {
    "start_availability": Indicator(
        "holdfast_http_requests_total", _START, "Starts are refused or fail", bad='status=~"5..|429"'
    ),
    "start_latency": Indicator("holdfast_http_request_seconds", _START, "Starts are acknowledged late"),
    "completion_latency": Indicator("holdfast_run_seconds", "", "Runs end late"),
    "freshness": Indicator("holdfast_run_closing_seconds", "", "The list of runs is behind"),
}
"""What each objective is measured by in Prometheus. A latency's limit must be a bound of its histogram."""


def rules(slo: Slo) -> str:
    """The file of rules, as YAML."""
    document = yaml.safe_dump(rules_of(slo), sort_keys=False, width=1000, allow_unicode=True)
    return _HEADER + document


def rules_of(slo: Slo) -> dict[str, JsonValue]:
    """The groups of rules: one that records error ratios, and one of alerts upon these."""
    windows = list(dict.fromkeys(window for rate in slo.burn_rates for window in (rate.short, rate.long)))
    recorded: list[JsonValue] = [_record(slo, name, window) for name in OBJECTIVES for window in windows]
    alerts: list[JsonValue] = [_alert(slo, name, rate) for name in OBJECTIVES for rate in slo.burn_rates]
    return {
        "groups": [
            {"name": "slo-errors", "rules": recorded},
            {"name": "slo-burn-rates", "rules": alerts},
        ]
    }


def _record(slo: Slo, name: ObjectiveName, window: str) -> dict[str, JsonValue]:
    objective = slo.objectives.named(name)
    within = objective.within_seconds if isinstance(objective, Latency) else None
    return {
        "record": f"{RECORD}_rate{window}",
        "expr": INDICATORS[name].errors(within, window),
        "labels": {"objective": name},
    }


def _alert(slo: Slo, name: ObjectiveName, rate: BurnRate) -> dict[str, JsonValue]:
    objective = slo.objectives.named(name)
    limit = f"{rate.factor:g} * {objective.budget:g}"
    over = [f'{RECORD}_rate{window}{{objective="{name}"}} > {limit}' for window in (rate.long, rate.short)]
    title = "".join(part.capitalize() for part in name.split("_"))
    what = INDICATORS[name].what
    return {
        "alert": f"{title}Burns{rate.long}",
        "expr": " and ".join(over),
        "labels": {"severity": rate.severity, "objective": name, "window": rate.long},
        "annotations": {
            "summary": f"{what}: the error budget is spent {rate.factor:g} times as fast as it may be",
            "description": f"{{{{ $value | humanizePercentage }}}} over {rate.long}, and still over {rate.short}. "
            f"The objective is {objective.target:g} %.",
            "runbook_url": "runbooks/capacity.md",
        },
    }


def _braced(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


def _joined(*labels: str) -> str:
    return ",".join(one for one in labels if one)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the file; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.traffic.alerts", description="Write the SLO's alerts.")
    parser.add_argument("--check", action="store_true", help="write nothing, and say whether the file is up to date")
    options = parser.parse_args(arguments)
    try:
        wanted = rules(read_slo())
    except SloError as error:
        print(error, file=sys.stderr)
        return 2
    if not options.check:
        ALERTS.parent.mkdir(parents=True, exist_ok=True)
        ALERTS.write_text(wanted, encoding="utf-8")
    elif not ALERTS.exists() or ALERTS.read_text(encoding="utf-8") != wanted:
        print(f"{ALERTS} is not what {SLO.name} demands: `python -m loadtests.traffic.alerts` writes it anew")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
