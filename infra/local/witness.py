"""The witness: the third vote on the lease, the second opinion on who is silent, and whoever looks on."""

from __future__ import annotations

import json

from infra import processes
from infra.local import etcd, prometheus
from infra.local.layout import Layout, python
from infra.local.site import Process, Site
from infra.topology import REGIONS

__all__ = ["NAME", "site", "write_files"]

NAME = "witness"


def write_files(layout: Layout) -> bool:
    """Whether a file changed."""
    changed = layout.prepare_member("w")
    targets = {
        region: (layout.link_url("w", region, "patroni"), layout.link_url("w", region, "etcd-client"))
        for region in REGIONS
    }
    events_file = str(layout.data(NAME) / "observer.jsonl")
    observer = processes.observer(layout.address("w.observer"), layout.tls_files(NAME), targets, events_file)
    changed |= layout.write(layout.config(NAME, "observer.json"), json.dumps(observer, indent=1))
    return changed | (layout.settings.prometheus.enabled and prometheus.write_files(layout))


def site(layout: Layout) -> Site:
    observer = Process(
        "observer",
        python("-m", "region_agent.observer", "--config", str(layout.config(NAME, "observer.json"))),
        stop_seconds=5,
        ports={"observer": layout.ports["w.observer"]},
    )
    lookers = (prometheus.process(layout),) if layout.settings.prometheus.enabled else ()
    return layout.supervised(NAME, (etcd.member(layout, "w"), observer, *lookers))
