"""The WAN: every line between sites is a proxy that can be cut, silenced one-way or slowed.

Proxies come up whole whenever the site starts: a fault never outlives the process that carried it.
"""

from __future__ import annotations

import json
from typing import cast

import httpx

from infra.local.errors import PartError
from infra.local.identity import peer_host
from infra.local.layout import Layout, python
from infra.local.links import LINKS, SITES, between
from infra.local.site import Process, Site
from infra.toolchain import require

__all__ = ["NAME", "closed_links", "reset", "site", "write_files"]

NAME = "wan"
_SECONDS = 3.0


def write_files(layout: Layout) -> bool:
    """Whether a file changed."""
    changed = layout.prepare(NAME)
    proxies = [
        {
            "name": link.name,
            "listen": layout.address(link.port),
            "upstream": layout.address(link.upstream),
            "enabled": True,
        }
        for link in LINKS
    ]
    routes = {
        str(layout.ports[f"gateway.{source}"]): {
            f"{peer_host(target)}:{layout.ports[f'{target}.etcd-peer']}": layout.address(
                between(source, target, "etcd-peer").port
            )
            for target in SITES
            if target != source
        }
        for source in SITES
    }
    changed |= layout.write(layout.config(NAME, "toxiproxy.json"), json.dumps(proxies, indent=1))
    changed |= layout.write(layout.config(NAME, "gateway.json"), json.dumps({"ports": routes}, indent=1))
    return changed


def site(layout: Layout) -> Site:
    toxiproxy = require(["toxiproxy-server"])["toxiproxy-server"]
    port = layout.ports["wan.toxiproxy"]
    proxies = str(layout.config(NAME, "toxiproxy.json"))
    return layout.supervised(
        NAME,
        (
            Process(
                "toxiproxy",
                (str(toxiproxy), "-host", "127.0.0.1", "-port", str(port), "-config", proxies, "-proxy-metrics"),
                {"LOG_LEVEL": "error"},
                stop_seconds=3,
                ports={
                    "toxiproxy": port,
                    **{f"link {link.name}": layout.ports[link.port] for link in LINKS},
                },
            ),
            Process(
                "gateway",
                python("-m", "infra.local.gateway", "--config", str(layout.config(NAME, "gateway.json"))),
                stop_seconds=3,
                ports={f"gateway {name}": layout.ports[f"gateway.{name}"] for name in SITES},
            ),
        ),
    )


def closed_links(layout: Layout) -> list[str]:
    """The links that carry nothing, because somebody cut them; `OSError` if nobody answers."""
    try:
        answer = httpx.get(f"{_api(layout)}/proxies", timeout=_SECONDS, trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        raise OSError(f"toxiproxy does not answer ({error or type(error).__name__})") from error
    proxies = cast("dict[str, dict[str, object]]", answer.json())
    return [link.name for link in LINKS if not proxies.get(link.name, {}).get("enabled")]


def reset(layout: Layout) -> None:
    """Every link is whole again: none cut, no toxic left."""
    try:
        httpx.post(f"{_api(layout)}/reset", timeout=_SECONDS, trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        raise PartError(f"the WAN's links could not be reset ({error}): `holdfast up` again") from error


def _api(layout: Layout) -> str:
    return f"http://{layout.address('wan.toxiproxy')}"
