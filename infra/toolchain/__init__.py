"""Every program that a region is made of, at its pinned version: found, or built once from source.

`ensure` builds what is missing, `require` never does; both return only binaries of the pinned version that
the services can execute.
"""

from infra.toolchain.account import Account, ensure_account
from infra.toolchain.binaries import Found, find, require
from infra.toolchain.errors import BuildFailed, GoUnusable, PostgresMissing, ToolchainError, ToolMissing
from infra.toolchain.go import ensure
from infra.toolchain.pins import TOOLS, Tool
from infra.toolchain.postgres import Postgres, find_postgres, install_postgres

__all__ = [
    "TOOLS",
    "Account",
    "BuildFailed",
    "Found",
    "GoUnusable",
    "Postgres",
    "PostgresMissing",
    "Tool",
    "ToolMissing",
    "ToolchainError",
    "ensure",
    "ensure_account",
    "find",
    "find_postgres",
    "install_postgres",
    "require",
]
