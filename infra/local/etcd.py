"""A lease store member demands a certificate of everybody, and reaches its peers only over WAN links."""

from __future__ import annotations

import base64
import ssl
from typing import Any, cast

import httpx

from infra import lease_store
from infra.local.identity import peer_host
from infra.local.layout import SITE_NAMES, Layout
from infra.local.links import SITES
from infra.local.site import Process
from infra.toolchain import require

__all__ = ["member", "rejoin", "remove_if_unchanged", "revision_of_empty"]

_STATE_FILE = "etcd-cluster-state"


def member(layout: Layout, where: str) -> Process:
    """The lease store's member at `where`."""
    name = SITE_NAMES[where]
    client, peer = layout.ports[f"{where}.etcd"], layout.ports[f"{where}.etcd-peer"]
    declared = lease_store.Member(
        name=where,
        deployment=layout.settings.name,
        data_dir=str(layout.data(name) / "etcd"),
        client_url=f"https://127.0.0.1:{client}",
        client_listen=f"https://127.0.0.1:{client}",
        peer_listen=f"https://127.0.0.1:{peer}",
        peers={site: _peer(layout, site) for site in SITES},
        tls=layout.tls_files(name),
        state=_state(layout, where),
    )
    program = require(["etcd"])["etcd"]
    return Process(
        "etcd",
        (str(program), *lease_store.arguments(declared)),
        # Go never takes a proxy for a loopback address, which is why peers have names.
        {"HTTPS_PROXY": f"http://{layout.address(f'gateway.{where}')}", "NO_PROXY": "", "GOGC": "50"},
        stop_seconds=5,
        ports={"etcd": client, "etcd peer": peer},
    )


def _peer(layout: Layout, where: str) -> str:
    return f"{peer_host(where)}:{layout.ports[f'{where}.etcd-peer']}"


def rejoin(layout: Layout, where: str) -> bool:
    """Whether the member had lost its data and was announced to the others as a new one.

    A member that comes back empty under its old identity could vote against what it has voted for before.
    """
    name = SITE_NAMES[where]
    if (layout.data(name) / "etcd").exists():
        return False
    with _client(layout) as client:
        for other in (site for site in SITES if site != where):
            url = f"{layout.url(f'{other}.etcd')}/v3/cluster/member"
            try:
                answer = cast("dict[str, Any]", _post(client, f"{url}/list", {}))
                # A member that has never started has no name yet: it still joins as it was declared.
                known = [one for one in answer.get("members", []) if one.get("name") == where]
                if not known:
                    return False
                _post(client, f"{url}/remove", {"ID": known[0]["ID"]})
                _post(client, f"{url}/add", {"peerURLs": [f"https://{_peer(layout, where)}"]})
            except (httpx.HTTPError, ValueError):
                continue
            layout.write(layout.config(name, _STATE_FILE), "existing\n")
            return True
    return False


def revision_of_empty(layout: Layout, where: str, key: str) -> str | None:
    """When a key was last written, if it is there and has an empty value. Raises httpx.HTTPError."""
    with _client(layout) as client:
        found = cast(
            "dict[str, Any]", _post(client, f"{layout.url(f'{where}.etcd')}/v3/kv/range", {"key": _encoded(key)})
        )
    (entry,) = found.get("kvs") or [{"value": "?"}]
    return None if entry.get("value") else str(entry["mod_revision"])


def remove_if_unchanged(layout: Layout, where: str, key: str, revision: str) -> bool:
    """Whether the key was removed: not where it was written after `revision`. Raises httpx.HTTPError."""
    compare = {"key": _encoded(key), "target": "MOD", "result": "EQUAL", "mod_revision": revision}
    remove = {"request_delete_range": {"key": _encoded(key)}}
    with _client(layout) as client:
        url = f"{layout.url(f'{where}.etcd')}/v3/kv/txn"
        answer = cast("dict[str, Any]", _post(client, url, {"compare": [compare], "success": [remove]}))
    return bool(answer.get("succeeded"))


def _client(layout: Layout) -> httpx.Client:
    context = ssl.create_default_context(cafile=str(layout.ca))
    context.load_cert_chain(layout.client.certificate, layout.client.key)
    return httpx.Client(verify=context, timeout=2.0, trust_env=False)


def _encoded(key: str) -> str:
    return base64.b64encode(key.encode()).decode()


def _post(client: httpx.Client, url: str, body: dict[str, Any]) -> object:
    return client.post(url, json=body).raise_for_status().json()


def _state(layout: Layout, where: str) -> str:
    """Kept beside the data: it decides only how an empty member starts."""
    path = layout.config(SITE_NAMES[where], _STATE_FILE)
    return path.read_text(encoding="utf-8").strip() if path.exists() else "new"
