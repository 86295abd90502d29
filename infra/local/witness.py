"""The witness: the third vote on the lease, the second opinion on who is silent, and whoever looks on."""

from __future__ import annotations

import json

from infra.local import etcd, prometheus
from infra.local.layout import Layout, python
from infra.local.site import Process, Site

__all__ = ["NAME", "site", "write_files"]

NAME = "witness"


def write_files(layout: Layout) -> bool:
    """Whether a file changed."""
    changed = layout.prepare_member("w")
    observer = {
        "listen": layout.address("w.observer"),
        "tls": layout.tls_files(NAME),
        "targets": {
            region: {
                "patroni": layout.link_url("w", region, "patroni"),
                "etcd": layout.link_url("w", region, "etcd-client"),
            }
            for region in ("a", "b")
        },
        "interval_seconds": 0.2,
        "timeout_seconds": 0.5,
        "events_file": str(layout.data(NAME) / "observer.jsonl"),
    }
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
