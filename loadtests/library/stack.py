"""The servers that contenders stand on, on free loopback ports: PostgreSQL, Dapr, Temporal. Ended at the end."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
from collections.abc import Generator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import psutil
import yaml

from infra.toolchain import ensure
from tests.component.dapr_stack import APP_ID, Sidecar, until
from tests.component.database import Database, own_database
from tests.component.signed_stack import SignedStack, signed_stack


@dataclass
class Stack:
    """Servers, started when they are first asked for, all over one PostgreSQL that keeps its commits on disk."""

    directory: Path
    database: Database
    _held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @cached_property
    def dapr(self) -> SignedStack:
        """Dapr with mTLS and signed histories, and one sidecar."""
        directory = self.directory / "dapr"
        (directory / "resources").mkdir(parents=True)
        dsn = f"{self.database.dsn} sslmode=disable pool_max_conns=20"
        return self._held.enter_context(signed_stack(directory, dsn))

    def sidecar(self, number: int) -> Sidecar:
        """The library's sidecar of that number, from 0."""
        while len(self._own_sidecars) <= number:
            self.dapr.start_sidecar()
        return self._own_sidecars[number]

    def sidecar_of(self, app_id: str) -> Sidecar:
        """The sidecar of an app of its own: Dapr gives the work of one app to any of its workers."""
        started = next((one for one in self.dapr.sidecars if one.app_id == app_id), None)
        return started or self.dapr.start_sidecar(app_id)

    @cached_property
    def dbos(self) -> str:
        """A database for DBOS."""
        self.database.execute("create database dbos")
        return f"postgresql://postgres@127.0.0.1:{self.database.port}/dbos"

    @cached_property
    def temporal(self) -> str:
        """A Temporal server's address. Raises ToolchainError where it can't be built."""
        tools = ensure(["temporal-server", "temporal-sql-tool"])
        directory = self.directory / "temporal"
        directory.mkdir()
        with (directory / "server.log").open("ab") as log:
            for name, schema in (("temporal", "temporal"), ("temporal_visibility", "visibility")):
                tool = [str(tools["temporal-sql-tool"]), "--plugin=postgres12", "--ep=127.0.0.1"]
                tool += [f"--port={self.database.port}", "--user=postgres", f"--db={name}"]
                for step in (
                    ["create-database"],
                    ["setup-schema", "--version=0.0"],
                    ["update-schema", f"--schema-name=postgresql/v12/{schema}"],
                ):
                    subprocess.run([*tool, *step], check=True, stdout=log, stderr=log)
            ports = _low_ports(8)
            config = _temporal_config(self.database.port, ports)
            (directory / "development.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
            server = subprocess.Popen(
                [str(tools["temporal-server"]), f"--config-file={directory / 'development.yaml'}", "start"],
                cwd=directory,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._held.callback(_end, server)
        until("Temporal's frontend", lambda: _listens(ports[0]), 60)
        return f"127.0.0.1:{ports[0]}"

    def resident_sidecars(self) -> int:
        """Bytes that the library's sidecars have in memory."""
        return sum(psutil.Process(one.process.pid).memory_info().rss for one in self._own_sidecars)

    @property
    def _own_sidecars(self) -> list[Sidecar]:
        return [one for one in self.dapr.sidecars if one.app_id == APP_ID]


@contextlib.contextmanager
def stack(directory: Path) -> Generator[Stack]:
    """A place for servers, with PostgreSQL running."""
    with own_database(fsync=True) as database:
        made = Stack(directory, database)
        with made._held:
            yield made


def _low_ports(count: int) -> list[int]:
    """Free ports that fit the signed 16 bits in which Temporal's schema keeps them."""
    found: list[int] = []
    for port in random.sample(range(16384, 32768), k=1024):
        if len(found) < count and not _listens(port):
            found.append(port)
    return found


def _temporal_config(postgres: int, ports: list[int]) -> dict[str, object]:
    def store(name: str, connections: int) -> dict[str, object]:
        sql = {"pluginName": "postgres12", "databaseName": name, "connectAddr": f"127.0.0.1:{postgres}"}
        sql |= {"connectProtocol": "tcp", "user": "postgres", "maxConns": connections, "maxIdleConns": connections}
        return {"sql": sql}

    names = ("frontend", "matching", "history", "worker")
    services = {
        name: {"rpc": {"grpcPort": ports[number], "membershipPort": ports[number + 4], "bindOnLocalHost": True}}
        for number, name in enumerate(names)
    }
    cluster = {
        "enabled": True,
        "initialFailoverVersion": 1,
        "rpcName": "frontend",
        "rpcAddress": f"127.0.0.1:{ports[0]}",
    }
    return {
        "log": {"stdout": True, "level": "warn"},
        "persistence": {
            "defaultStore": "default",
            "visibilityStore": "visibility",
            "numHistoryShards": 4,
            "datastores": {"default": store("temporal", 20), "visibility": store("temporal_visibility", 5)},
        },
        "global": {"membership": {"maxJoinDuration": "30s", "broadcastAddress": "127.0.0.1"}},
        "services": services,
        "clusterMetadata": {
            "enableGlobalNamespace": False,
            "failoverVersionIncrement": 10,
            "masterClusterName": "active",
            "currentClusterName": "active",
            "clusterInformation": {"active": cluster},
        },
        "dcRedirectionPolicy": {"policy": "noop"},
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
