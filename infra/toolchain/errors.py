"""Every failure of the toolchain is a `ToolchainError` whose text names the next action."""

from __future__ import annotations

__all__ = ["BuildFailed", "GoUnusable", "PostgresMissing", "ToolMissing", "ToolchainError"]


class ToolchainError(Exception):
    """The toolchain could not be made ready; the message says what to do about it."""


class ToolMissing(ToolchainError):
    """A pinned tool is neither on PATH nor in the cache, and the caller did not ask for a build."""


class GoUnusable(ToolchainError):
    """Go is missing, or too old for a module's `go` line."""


class BuildFailed(ToolchainError):
    """`go build` ended with an error, or had no room to run."""


class PostgresMissing(ToolchainError):
    """No usable PostgreSQL server installation was found."""
