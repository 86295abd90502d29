"""`python -m loadtests.tax`: what a step and a run cost, by the distance between two real regions.

Exit codes: 0 everything was measured, 2 something could not be, or the input was wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from infra.automation import Busy, DeploymentError
from infra.config import ConfigError
from infra.state import state_directory
from infra.toolchain import ToolchainError
from loadtests.tax.measure import FULL, QUICK, REPLICATIONS, ROUND_TRIPS, Cell, NotInForceError, measure, merged
from loadtests.tax.regions import Replication, regions
from loadtests.tax.report import Results, show, write_report
from loadtests.telling import marked_page, progress

UNMEASURED = 2
_EXAMPLES = """\
examples:
  make tax                                                       everything, 6 to 8 minutes on 2 cores
  python -m loadtests.tax --round-trip 0,20                      a piece; what was measured before is kept beside it
  python -m loadtests.tax --round-trip 150 --replication synchronous
  python -m loadtests.tax --quick --fresh                        a small run, and nothing of earlier ones
  python -m loadtests.tax --page docs/durability-tax.md          also renew the results in that page

exit codes: 0 everything that was asked for was measured, 2 something was not, or the input was wrong
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, report; returns the exit code."""
    options = _parser().parse_args(arguments)
    place = state_directory(options.state) / "benchmarks" / "tax"
    console = Console(stderr=True)
    say = progress(console)
    now: list[Cell] = []
    try:
        cells = [] if options.fresh else Results.load(place).cells
        if options.round_trip:
            say("making two regions")
            with regions(place / "deployment") as made:
                scale = QUICK if options.quick else FULL
                for cell in measure(made, options.round_trip, options.replication, scale, say):
                    now.append(cell)
                    cells = merged(cells, [cell])
                    write_report(place, cells)
            say("the regions are removed")
    except (Busy, ConfigError, DeploymentError, NotInForceError, OSError, ToolchainError, ValueError) as error:
        console.print(f"error: {error}", style="red", markup=False)
        return UNMEASURED
    except KeyboardInterrupt:
        console.print("interrupted; what was measured until then is kept")
        return UNMEASURED
    page = write_report(place, cells, options.page)
    if options.json:
        print((page.parent / "results.json").read_text(encoding="utf-8"), end="")
    else:
        show(Console(), cells)
    console.print(f"report: {page}", highlight=False, soft_wrap=True)
    return UNMEASURED if any(cell.missing for cell in now or cells) or not cells else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.tax",
        description="Measure what durability costs in two regions, by their distance and by their replication.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--round-trip",
        type=_distances,
        default=list(ROUND_TRIPS),
        metavar="MS",
        help="milliseconds, separated by commas; `none` only writes the report of what is there [default: 0,20,60,150]",
    )
    parser.add_argument(
        "--replication",
        type=_replications,
        default=list(REPLICATIONS),
        metavar="NAMES",
        help="synchronous, asynchronous [default: both]",
    )
    parser.add_argument("--quick", action="store_true", help="small scale, about two minutes for everything")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output, nothing else")
    parser.add_argument(
        "--page",
        type=marked_page,
        metavar="FILE",
        help="a Markdown page whose results, between two marks, are renewed",
    )
    parser.add_argument(
        "--state", type=Path, metavar="DIR", help="where results are kept, in `benchmarks/tax` [default: as `holdfast`]"
    )
    return parser


def _distances(text: str) -> list[int]:
    if text == "none":
        return []
    try:
        found = sorted({int(word) for word in text.split(",")})
    except ValueError:
        found = [-1]
    if not found or not 0 <= found[0] <= found[-1] <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} are no round trips: name milliseconds from 0 to 1000, as in 0,20")
    return found


def _replications(text: str) -> list[Replication]:
    found: list[Replication] = [kind for kind in REPLICATIONS if kind in text.split(",")]
    if len(found) != len(set(text.split(","))):
        raise argparse.ArgumentTypeError(f"{text!r} is no replication; there are {', '.join(REPLICATIONS)}")
    return found


if __name__ == "__main__":
    sys.exit(main())
