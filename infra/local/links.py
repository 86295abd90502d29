"""Every line between two sites, one link per direction, pair and kind; nothing else leaves a site.

A link is named `<source>-<target>.<line>`, its source being the side that dials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["LINKS", "SITES", "LinkName", "between"]

SITES = ("a", "b", "w")
"""The two regions and the witness, as links name them."""

_LINES = {
    ("a", "b"): ("postgres", "patroni", "etcd-peer", "etcd-client"),
    ("b", "a"): ("postgres", "patroni", "etcd-peer", "etcd-client"),
    ("a", "w"): ("etcd-peer", "etcd-client", "observer"),
    ("b", "w"): ("etcd-peer", "etcd-client", "observer"),
    ("w", "a"): ("etcd-peer", "etcd-client", "patroni", "metrics"),
    ("w", "b"): ("etcd-peer", "etcd-client", "patroni", "metrics"),
}

_UPSTREAM = {"etcd-client": "etcd", "metrics": "agent"}
"""The port that answers a line, where it has another name."""


@dataclass(frozen=True)
class LinkName:
    """One line in one direction."""

    source: str
    target: str
    line: str

    @property
    def name(self) -> str:
        return f"{self.source}-{self.target}.{self.line}"

    @property
    def port(self) -> str:
        """The name of the port that the source dials."""
        return f"link.{self.name}"

    @property
    def upstream(self) -> str:
        """The name of the port that the target listens on."""
        return f"{self.target}.{_UPSTREAM.get(self.line, self.line)}"


LINKS: Sequence[LinkName] = tuple(
    LinkName(source, target, line) for (source, target), lines in _LINES.items() for line in lines
)


def between(source: str, target: str, line: str) -> LinkName:
    """The link by which `source` reaches `target`; a `KeyError` if there is no such line."""
    for link in LINKS:
        if (link.source, link.target, link.line) == (source, target, line):
            return link
    raise KeyError(f"no line {source}-{target}.{line}")
