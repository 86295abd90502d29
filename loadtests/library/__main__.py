"""`python -m loadtests.library`: what durability costs, measured beside other libraries, and judged.

Exit codes: 0 every bar holds, 1 one does not, 2 something could not be measured or the input was wrong.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from infra.state import state_directory
from infra.toolchain import ToolchainError
from loadtests.library.bars import UNMEASURED, exit_status, judge
from loadtests.library.cells import FULL, QUICK, measure
from loadtests.library.contenders import CONTENDERS
from loadtests.library.report import as_json, show, write_report
from loadtests.library.stack import stack
from loadtests.telling import marked_page, progress

_EXAMPLES = """\
examples:
  make bench                                                  everything, 15 to 20 minutes on 2 cores
  python -m loadtests.library --quick                         a small run; bars on larger scale stay unmeasured
  python -m loadtests.library --only plain,holdfast,dbos      three contenders alone
  python -m loadtests.library --json > results.json           for scripts; progress goes to standard error
  python -m loadtests.library --page docs/benchmarks.md       also renew the results in that page

exit codes: 0 every bar holds, 1 one does not, 2 something could not be measured or the input was wrong
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, judge, report; returns the exit code."""
    options = _parser().parse_args(arguments)
    place = state_directory(options.state) / "benchmarks"
    console = Console(stderr=True)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as directory, stack(Path(directory)) as servers:
            scale = QUICK if options.quick else FULL
            figures = measure(servers, place / "environments", scale, options.only, progress(console))
    except (ToolchainError, OSError) as error:
        console.print(f"error: {error}", style="red", markup=False)
        return UNMEASURED
    except KeyboardInterrupt:
        console.print("interrupted; nothing was written")
        return UNMEASURED
    bars = judge(figures)
    page = write_report(place / "results", figures, bars, options.page)
    if options.json:
        print(as_json(figures, bars))
    else:
        show(Console(), figures, bars)
    console.print(f"report: {page}", highlight=False, soft_wrap=True)
    return exit_status(bars)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.library",
        description="Measure pydantic_ai_dapr beside other ways to run the same agent, on one PostgreSQL.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="small scale, about a minute for each contender")
    parser.add_argument(
        "--only",
        type=_names,
        default=list(CONTENDERS),
        metavar="NAMES",
        help=f"contenders, separated by commas: {', '.join(CONTENDERS)} [default: all]",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output, nothing else")
    parser.add_argument(
        "--page",
        type=marked_page,
        metavar="FILE",
        help="a Markdown page whose results, between two marks, are renewed",
    )
    parser.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="where environments and results are kept, in `benchmarks` [default: $HOLDFAST_STATE, else .holdfast]",
    )
    return parser


def _names(text: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in CONTENDERS]
    if unknown or not names:
        said = f"no contender is called {', '.join(unknown)}" if unknown else "no contender was named"
        raise argparse.ArgumentTypeError(f"{said}; there are {', '.join(CONTENDERS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
