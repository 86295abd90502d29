"""`python -m infra.toolchain {ensure,list,path NAME}`: the toolchain for scripts and the curious.

Exit status 0: done. 1: the tool asked for is not there. 2: it could not be made.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from infra.toolchain.binaries import find, require
from infra.toolchain.errors import ToolchainError, ToolMissing
from infra.toolchain.go import ensure
from infra.toolchain.pins import TOOLS

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    known = [tool.name for tool in TOOLS]
    if options.command == "ensure" and (unknown := set(options.names) - set(known)):
        parser.error(f"no such tool: {', '.join(sorted(unknown))} (there are {', '.join(known)})")
    try:
        if options.command == "list":
            _list(as_json=options.json)
        elif options.command == "path":
            print(require([options.name])[options.name])
        else:
            names = options.names or known
            for name, path in ensure(names, _report).items():
                print(f"{name}\t{path}")
    except ToolMissing as missing:
        print(missing, file=sys.stderr)
        return 1
    except ToolchainError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    names = [tool.name for tool in TOOLS]
    parser = argparse.ArgumentParser(prog="python -m infra.toolchain", description="The pinned tools.")
    commands = parser.add_subparsers(dest="command", required=True)
    building = commands.add_parser("ensure", help="build what is missing (all tools, or those named)")
    building.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    listing = commands.add_parser("list", help="each tool, its version and where it is")
    listing.add_argument("--json", action="store_true", help="for programs")
    path = commands.add_parser("path", help="where one tool is")
    path.add_argument("name", choices=names, metavar="NAME", help=", ".join(names))
    return parser


def _list(*, as_json: bool) -> None:
    rows: list[dict[str, str | None]] = []
    for tool in TOOLS:
        found = find(tool)
        source, path = (found.source, str(found.path)) if found else ("missing", None)
        rows.append({"tool": tool.name, "version": tool.version, "source": source, "path": path})
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print(f"{row['tool']:<18}{row['version']:<10}{row['source']:<11}{row['path'] or ''}".rstrip())


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
