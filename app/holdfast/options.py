"""Options and exits that commands on a deployment share.

Exit codes: 0 it holds, 1 it does not hold, 2 it could not be checked or the input was wrong.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

__all__ = ["DOES_NOT_HOLD", "UNCHECKED", "as_json", "deployment_options", "emit", "fails_as", "refuse"]

_F = TypeVar("_F", bound=Callable[..., Any])

DOES_NOT_HOLD = 1
UNCHECKED = 2


def deployment_options(command: _F) -> _F:
    """`--stack` and `--state`: which deployment."""
    command = click.option(
        "--state",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="State directory; deployments in different ones live side by side. "
        "[default: $HOLDFAST_STATE, else .holdfast in the checkout]",
    )(command)
    return click.option("--stack", default="local", show_default=True, metavar="NAME", help="Which Pulumi.NAME.yaml.")(
        command
    )


def as_json(command: _F) -> _F:
    """`--json`: one JSON object on standard output, and nothing else there."""
    return click.option("--json", "json_", is_flag=True, help="Print one JSON object, for scripts.")(command)


def emit(answer: dict[str, Any]) -> None:
    """The answer of a command with `--json`."""
    click.echo(json.dumps(answer, default=str))


def refuse(code: int, message: str, *, json_: bool = False) -> NoReturn:
    """Ends the command with a reason on standard error, and with `json_` on standard output too."""
    if json_:
        emit({"ok": False, "error": message})
    click.echo(f"{click.style('error:', fg='red', bold=True)} {message}", err=True)
    sys.exit(code)


@contextmanager
def fails_as(json_: bool = False) -> Generator[None, None, None]:
    """Turns what may go wrong with a deployment into a reason and an exit code."""
    from infra.automation import Busy, DeploymentError
    from infra.config import ConfigError
    from infra.manifest import NoManifest
    from infra.program import TargetUnavailable
    from infra.switchover import NotFinished, NotPossible
    from infra.toolchain import ToolchainError

    try:
        yield
    except (DeploymentError, NotFinished, NotPossible) as error:
        refuse(DOES_NOT_HOLD, str(error), json_=json_)
    except (Busy, ConfigError, NoManifest, TargetUnavailable, ToolchainError) as error:
        refuse(UNCHECKED, str(error), json_=json_)
    except KeyboardInterrupt:
        refuse(UNCHECKED, "interrupted; the same command may be repeated", json_=json_)
