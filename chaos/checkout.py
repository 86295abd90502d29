"""Which code a report is about."""

from __future__ import annotations

import subprocess

from infra.state import project_root

TESTED = ("app", "chaos", "infra", "pyproject.toml", "uv.lock")
"""What an experiment's answer can depend on: a change of anything else makes no other version."""
SECONDS = 10.0


def version() -> str | None:
    """The commit of this checkout, with a `+` where tested files differ from it; None where nobody can tell."""
    commit = _git("rev-parse", "--short=10", "HEAD")
    changed = _git("status", "--porcelain", "--", *TESTED)
    return None if commit is None or changed is None else commit + ("+" if changed else "")


def _git(*words: str) -> str | None:
    try:
        ran = subprocess.run(
            ["git", *words], cwd=project_root(), capture_output=True, text=True, check=False, timeout=SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ran.stdout.strip() if ran.returncode == 0 else None
