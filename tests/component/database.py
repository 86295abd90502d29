"""A PostgreSQL on the loopback interface, which can be stopped, killed, frozen and started again."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from infra.toolchain import ensure_account, find_postgres
from infra.toolchain.account import is_root
from tests.component.dapr_stack import free_ports

CONNECTIONS = 300
"""Enough for every contender of the benchmark, a Temporal server among them, side by side."""


@dataclass(frozen=True)
class Database:
    """A server of its own, as the services' account: PostgreSQL refuses to run as root.

    With `fsync` each commit is on disk before it is acknowledged, as it is by default.
    """

    bin: Path
    directory: Path
    port: int
    fsync: bool = False

    @property
    def dsn(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres connect_timeout=5"

    @property
    def postmaster(self) -> int:
        """The process id of the server, 0 where it was stopped."""
        try:
            return int((self.directory / "data" / "postmaster.pid").read_text().split()[0])
        except FileNotFoundError:
            return 0

    def run(self, program: str, *arguments: str) -> None:
        command = [str(self.bin / program), *arguments]
        if is_root():
            account = ensure_account()
            command = ["setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups", "--", *command]
        # The server keeps what it inherits: with a pipe of ours the call would never end.
        with (self.directory / "commands.log").open("ab") as log:
            subprocess.run(command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)

    def make(self) -> None:
        self.run("initdb", "--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "-D", self._data)

    def start(self) -> None:
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
            f" -c fsync={'on' if self.fsync else 'off'} -c max_connections={CONNECTIONS}"
        )
        log = str(self.directory / "postgres.log")
        self.run("pg_ctl", "start", "-w", "-t", "60", "-D", self._data, "-l", log, "-o", options)

    def stop(self, mode: str = "fast") -> None:
        self.run("pg_ctl", "stop", "-w", "-t", "60", "-m", mode, "-D", self._data)

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """What a connection of its own is told."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Nothing of the server runs; its kernel still accepts connections and data."""
        postmaster = psutil.Process(self.postmaster)
        # The postmaster stops first and goes on last: in between nobody starts a process, or takes away an ended one.
        postmaster.suspend()
        try:
            children = postmaster.children(recursive=True)
            for child in children:
                child.suspend()
            try:
                yield
            finally:
                for child in children:
                    child.resume()
        finally:
            postmaster.resume()

    @property
    def _data(self) -> str:
        return str(self.directory / "data")


@contextlib.contextmanager
def own_database(*, fsync: bool = False) -> Iterator[Database]:
    """A new server, removed at the end. Raises ToolchainError where there is no PostgreSQL."""
    found = find_postgres()
    # pytest's own directories are closed to other users.
    directory = Path(tempfile.mkdtemp(prefix="holdfast-test-"))
    if is_root():
        account = ensure_account()
        os.chown(directory, account.uid, account.gid)
    made = Database(found.bin, directory, free_ports(1)[0], fsync)
    try:
        made.make()
        made.start()
        yield made
    finally:
        if made.postmaster:
            made.stop("immediate")
        shutil.rmtree(directory)
