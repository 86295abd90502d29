"""`holdfast report`: what to do with the reports of drills."""

from __future__ import annotations

import click

from holdfast.judge import judge

__all__ = ["report"]


@click.group()
def report() -> None:
    """Work with the reports of drills: the folders in <state>/reports."""


report.add_command(judge)
