"""What a deployment is at this moment, asked of every part; those that do not answer are told of too.

Nothing here changes anything, and nothing is reported that was not seen just now.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from infra.doors import Doors, Unanswered
from infra.local import supervisor
from infra.local.errors import PartError
from infra.manifest import Manifest

__all__ = [
    "DatabaseStatus",
    "DeploymentStatus",
    "LinkStatus",
    "ProcessStatus",
    "RegionStatus",
    "SiteStatus",
    "observe",
]

_P = ParamSpec("_P")
_T = TypeVar("_T")

SOCKET = "supervisor.sock"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class ProcessStatus:
    """One supervised process, as its supervisor sees it."""

    name: str
    running: bool
    state: str
    """In the supervisor's own words, such as Running, Restarting or Disabled."""
    restarts: int
    pid: int | None


@dataclass(frozen=True)
class SiteStatus:
    """One supervisor and its processes."""

    name: str
    answers: bool
    processes: Sequence[ProcessStatus]
    error: str = ""


@dataclass(frozen=True)
class DatabaseStatus:
    """One database node, as Patroni sees it."""

    name: str
    role: str
    """leader, sync_standby, replica, or unknown."""
    state: str
    timeline: int | None
    lag_bytes: int | None
    error: str = ""

    @property
    def streaming(self) -> bool:
        """Whether it receives the leader's changes as they happen."""
        return self.state in ("streaming", "running")


@dataclass(frozen=True)
class RegionStatus:
    """One region: its role as its own agent tells it, and its database."""

    name: str
    role: str
    """active, standby, activating, or unknown."""
    epoch: int | None
    since: str
    api: str
    database: DatabaseStatus
    open_runs: int | None
    stuck_runs: Sequence[str]
    error: str = ""


@dataclass(frozen=True)
class LinkStatus:
    """One WAN link with what disturbs it."""

    name: str
    source: str
    target: str
    enabled: bool | None
    """None when the proxy does not answer."""
    toxics: Sequence[str]

    @property
    def disturbed(self) -> bool:
        return self.enabled is False or bool(self.toxics)


@dataclass(frozen=True)
class DeploymentStatus:
    """A deployment at one moment."""

    name: str
    directory: str
    active: str | None
    """The region that is active, if exactly one says so."""
    regions: Sequence[RegionStatus]
    sites: Sequence[SiteStatus]
    toxiproxy: str
    """Where the links' proxy takes orders."""
    links: Sequence[LinkStatus]

    def to_json(self) -> dict[str, Any]:
        """The status as plain values."""
        return dataclasses.asdict(self)

    def region(self, name: str) -> RegionStatus:
        """The region of that name."""
        return next(region for region in self.regions if region.name == name)


def observe(manifest: Manifest, doors: Doors | None = None) -> DeploymentStatus:
    """The status of the deployment, within a few seconds even when nothing answers."""
    if doors is None:
        with Doors(manifest) as own:
            return observe(manifest, own)
    parts = [*manifest.regions.values(), manifest.witness, manifest.payments, manifest.wan]
    names = sorted(manifest.regions)
    with ThreadPoolExecutor(max_workers=4 * len(parts)) as pool:
        sites = {part.site: pool.submit(_site, part.site, part.directory / SOCKET) for part in parts}
        agents = {name: pool.submit(_asked, doors.agent_status, name) for name in names}
        nodes = {name: pool.submit(_asked, doors.patroni, name) for name in names}
        clusters = [pool.submit(_asked, doors.cluster, name) for name in names]
        proxies = pool.submit(_asked, doors.proxies)
    members = _members([answer for answer, _ in (cluster.result() for cluster in clusters) if answer])
    regions = [
        _region(manifest, name, agents[name].result(), _database(nodes[name].result(), members)) for name in names
    ]
    active = [region.name for region in regions if region.role == "active"]
    return DeploymentStatus(
        name=manifest.name,
        directory=str(manifest.directory),
        active=active[0] if len(active) == 1 else None,
        regions=regions,
        sites=[site.result() for site in sites.values()],
        toxiproxy=manifest.wan.toxiproxy,
        links=_links(manifest, proxies.result()[0]),
    )


def _asked(question: Callable[_P, _T], *about: _P.args, **more: _P.kwargs) -> tuple[_T | None, str]:
    """The answer, or why there is none."""
    try:
        return question(*about, **more), ""
    except Unanswered as error:
        return None, str(error)


def _site(name: str, socket: Path) -> SiteStatus:
    try:
        seen = supervisor.status(socket)
    except PartError as error:
        return SiteStatus(name, False, (), str(error))
    if seen is None:
        return SiteStatus(name, False, (), "no answer")
    processes = [
        ProcessStatus(one.name, one.running, one.status, one.restarts, one.pid if one.running else None)
        for _, one in sorted(seen.items())
    ]
    return SiteStatus(name, True, processes)


def _members(clusters: Sequence[Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
    """Every node by its name, as the first Patroni that answered sees it."""
    members = clusters[0].get("members") if clusters else None
    return {str(member["name"]): member for member in members or () if "name" in member}


def _database(answer: tuple[Mapping[str, Any] | None, str], members: Mapping[str, Mapping[str, Any]]) -> DatabaseStatus:
    node, error = answer
    name = str((node or {}).get("patroni", {}).get("name", ""))
    member = members.get(name, {})
    lag = member.get("lag")
    return DatabaseStatus(
        name=name,
        role=str(member.get("role") or (node or {}).get("role") or UNKNOWN),
        state=str(member.get("state") or (node or {}).get("state") or UNKNOWN),
        timeline=_whole(member.get("timeline") or (node or {}).get("timeline")),
        lag_bytes=_whole(lag),
        error=error,
    )


def _region(
    manifest: Manifest, name: str, answer: tuple[Mapping[str, Any] | None, str], database: DatabaseStatus
) -> RegionStatus:
    said, error = answer[0] or {}, answer[1]
    return RegionStatus(
        name=name,
        role=str(said.get("role") or UNKNOWN),
        epoch=_whole(said.get("epoch")),
        since=str(said.get("since") or ""),
        api=manifest.regions[name].api,
        database=database,
        open_runs=_whole(said.get("open_runs")),
        stuck_runs=[str(run) for run in said.get("stuck") or ()],
        error=error,
    )


def _links(manifest: Manifest, proxies: Mapping[str, Any] | None) -> list[LinkStatus]:
    links: list[LinkStatus] = []
    for link in manifest.wan.links:
        proxy = (proxies or {}).get(link.name)
        toxics = [_toxic(toxic) for toxic in (proxy or {}).get("toxics") or ()]
        enabled = bool(proxy.get("enabled")) if proxy is not None else None
        links.append(LinkStatus(link.name, link.source, link.target, enabled, toxics))
    return links


def _toxic(toxic: Mapping[str, Any]) -> str:
    attributes = ", ".join(f"{name} {value}" for name, value in (toxic.get("attributes") or {}).items())
    return f"{toxic.get('stream')} {toxic.get('type')} ({attributes})"


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
