"""`holdfast drill`: the drills with which everybody begins, by name, and those of people: runbooks and game days."""

from __future__ import annotations

import click

from holdfast.drill import drill
from holdfast.gameday import game_day
from holdfast.runbook import runbook

__all__ = ["drills"]


class _Drills(click.Group):
    """What is no other command is the name of a drill, or an option of one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = {*self.commands, *ctx.help_option_names}
        return super().parse_args(ctx, args if args and args[0] in known else ["experiment", *args])


@click.group(
    cls=_Drills,
    epilog="""\b
Examples:
  holdfast drill                          lose the active region, and prove the failover
  holdfast drill worker-crash             kill a worker in the middle of its work
  holdfast drill switchover --help        what a drill takes
  holdfast drill runbook --list           the runbooks, and which can be drilled here
  holdfast drill runbook witness-loss     follow a runbook to the letter, under load
  holdfast drill game-day --seed 7        be the operator
\b
Exit codes: 0 valid, 1 invalid, 2 unknown or not possible.""",
)
def drills() -> None:
    """Prove a failover (region-loss, worker-crash or switchover), drill a runbook, or hold a game day."""


drill.hidden = True
drills.add_command(drill, "experiment")
drills.add_command(runbook, "runbook")
drills.add_command(game_day, "game-day")
