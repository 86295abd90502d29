"""Each tool has one pinned version, one way to build it and one way to recognise it.

`modules/<module>/go.mod` and `go.sum` fix every dependency; this file fixes what is built from them. Each
big tool is a Go module of its own, because their dependencies clash.
"""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MODULES", "PEERS", "TOOLS", "Tool", "go_platform", "tool_named"]

MODULES = Path(__file__).parent / "modules"
"""One directory per Go module, each with its `go.mod` and a complete `go.sum`."""

_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True)
class Tool:
    """A program at one exact version.

    `stamp` is the Go variable that carries the version into the binary, where the source does not.
    `version_pattern` must match a whole line of what `<name> <version_arguments>` prints.
    """

    name: str
    module: str
    package: str
    version: str
    version_arguments: tuple[str, ...]
    version_pattern: str
    tags: tuple[str, ...] = ()
    stamp: str = ""
    vouched_by: str = ""
    """Its neighbour from `dapr init` that tells the version, for a program that cannot tell its own.

    Such a program is not looked for on PATH: `scheduler` and `sentry` are names of unrelated programs too.
    """
    service: bool = True
    """Whether it runs as the service account, which then must be able to execute it."""

    @property
    def directory(self) -> Path:
        """Where the tool's Go module is."""
        return MODULES / self.module

    @property
    def build_arguments(self) -> tuple[str, ...]:
        """What follows `go build -o FILE`: the same inputs give the same binary."""
        variables = f" -X {self.stamp}" if self.stamp else ""
        tags = ("-tags", ",".join(self.tags)) if self.tags else ()
        flags = ("-mod=readonly", "-buildvcs=false", "-trimpath", *tags, "-ldflags", f"-s -w{variables}")
        return (*flags, self.package)

    @property
    def key(self) -> str:
        """Names the tool's place in the cache: it changes with anything that goes into the build."""
        digest = hashlib.sha256()
        for name in ("go.mod", "go.sum"):
            digest.update((self.directory / name).read_bytes())
        digest.update("\0".join((*go_platform(), *self.build_arguments)).encode())
        return f"{self.name}-{self.version}-{digest.hexdigest()[:12]}"

    def recognises(self, output: str) -> bool:
        """Whether what a binary says about itself is exactly this version."""
        pattern = self.version_pattern.format(version=re.escape(self.version))
        return any(re.fullmatch(pattern, line.strip()) for line in output.splitlines())


def go_platform() -> tuple[str, str]:
    """This machine in Go's words, e.g. `("linux", "amd64")`."""
    machine = platform.machine().lower()
    return platform.system().lower(), _ARCHITECTURES.get(machine, machine)


def _dapr(name: str) -> Tool:
    # Without `stablecomponents` daprd is built with no component at all and panics at start.
    return Tool(
        name=name,
        module="dapr",
        package=f"github.com/dapr/dapr/cmd/{name}",
        version="1.18.0",
        tags=("stablecomponents",),
        stamp="github.com/dapr/dapr/pkg/buildinfo.version=1.18.0",
        version_arguments=("--version",),
        version_pattern="{version}",
        vouched_by="" if name == "daprd" else "daprd",
    )


def _prometheus(name: str, *, service: bool = True) -> Tool:
    # Version 3.16 of the program is 0.316 of the module. Of all ways to find what it looks at, a fixed list is enough.
    return Tool(
        name=name,
        module="prometheus",
        package=f"github.com/prometheus/prometheus/cmd/{name}",
        version="0.316.0",
        tags=("remove_all_sd",),
        stamp="github.com/prometheus/common/version.Version=0.316.0",
        version_arguments=("--version",),
        version_pattern=f"{name}, version {{version}} .*",
        service=service,
    )


TOOLS: Sequence[Tool] = (
    _dapr("daprd"),
    _dapr("placement"),
    _dapr("scheduler"),
    _dapr("sentry"),
    Tool(
        name="etcd",
        module="etcd",
        package="go.etcd.io/etcd/server/v3",
        version="3.6.16",
        version_arguments=("--version",),
        version_pattern="etcd Version: {version}",
    ),
    Tool(
        name="etcdctl",
        module="etcd",
        package="go.etcd.io/etcd/etcdctl/v3",
        version="3.6.16",
        version_arguments=("version",),
        version_pattern="etcdctl version: {version}",
    ),
    Tool(
        name="toxiproxy-server",
        module="toxiproxy",
        package="github.com/Shopify/toxiproxy/v2/cmd/server",
        version="2.12.0",
        stamp="github.com/Shopify/toxiproxy/v2.Version=2.12.0",
        version_arguments=("--version",),
        version_pattern="toxiproxy-server version {version}",
    ),
    Tool(
        name="process-compose",
        module="process-compose",
        package="github.com/f1bonacc1/process-compose/src",
        version="1.64.1",
        stamp="github.com/f1bonacc1/process-compose/src/config.Version=v1.64.1",
        version_arguments=("version", "--short"),
        version_pattern="v?{version}",
    ),
    _prometheus("prometheus"),
    _prometheus("promtool", service=False),
    Tool(
        name="pulumi",
        module="pulumi",
        package="github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
        version="3.259.0",
        stamp="github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=3.259.0",
        version_arguments=("version",),
        version_pattern="v?{version}",
        service=False,
    ),
)
"""In the order in which they are built: what a region needs first comes first."""


def _temporal(name: str, package: str, version_pattern: str) -> Tool:
    return Tool(
        name=name,
        module="temporal",
        package=f"go.temporal.io/server/cmd/{package}",
        version="1.31.1",
        version_arguments=("--version",),
        version_pattern=version_pattern,
        service=False,
    )


PEERS: Sequence[Tool] = (
    _temporal("temporal-server", "server", "temporal version {version}"),
    _temporal("temporal-sql-tool", "tools/sql", "temporal-sql-tool version {version}"),
)
"""What only a comparison needs: built when it is asked for by name."""


def tool_named(name: str) -> Tool:
    """The pinned tool of that name; a `KeyError` lists the names there are."""
    known = (*TOOLS, *PEERS)
    for tool in known:
        if tool.name == name:
            return tool
    raise KeyError(f"no pinned tool is called {name!r}; there are {', '.join(tool.name for tool in known)}")
