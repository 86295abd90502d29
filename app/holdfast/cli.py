"""`holdfast`: one command per thing that a person does with a deployment.

Commands are imported when they are called, so that `holdfast --help` answers at once.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version

import click

COMMANDS = {
    "up": ("holdfast.deploy:up", "Provision two regions and a witness, or repair what is dead."),
    "status": ("holdfast.deploy:status", "Show regions, roles, replication and links."),
    "run": ("holdfast.runs:run", "Start durable agent runs from a file of tickets."),
    "runs": ("holdfast.runs:runs", "List runs, or show one with its steps."),
    "approve": ("holdfast.approvals:approve", "Decide a tool call that a run waits for."),
    "rerun": ("holdfast.histories:rerun", "Run an ended run again, whole or from a step."),
    "export": ("holdfast.histories:export", "Write a run's whole history to a file."),
    "verify": ("holdfast.histories:verify", "Check the signatures of an exported history."),
    "replay": ("holdfast.histories:replay", "Prove that the code does what an exported history says."),
    "switchover": ("holdfast.deploy:switchover", "Move the active role to the other region, as planned."),
    "drill": ("holdfast.drill:drill", "Prove a failover: inject a fault, wait, judge, report."),
    "chaos": ("holdfast.chaos:chaos", "List and run the catalogue of chaos experiments."),
    "load": ("holdfast.load:load", "Put load on a deployment, judge it by the objectives, find its capacity."),
    "report": ("holdfast.report:report", "Judge again, sum up and compare the reports of drills."),
    "down": ("holdfast.deploy:down", "Destroy the deployment and leave nothing behind."),
}

EPILOG = """\b
Examples:
  holdfast up                       two regions on this machine
  holdfast run tickets.jsonl        feed the agents
  holdfast status                   who is active, and is it healthy?
  holdfast drill region-loss        kill the active region and judge what happened
  holdfast down                     leave nothing behind

\b
Exit codes: 0 it holds, 1 it does not hold, 2 it could not be checked or the input was wrong."""


class Commands(click.Group):
    """Lists every command without importing any, and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.command(
    cls=Commands,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(version("holdfast"), prog_name="holdfast")
def main() -> None:
    """Durable PydanticAI agents that survive the loss of a region, and the drill that proves it."""


if __name__ == "__main__":
    main()
