"""The manifest says where everything of a deployment answers, and holds no secret."""

from __future__ import annotations

import json

from infra.local import dapr, payments, region
from infra.local.files import PUBLIC, write
from infra.local.layout import SITE_NAMES, Layout
from infra.local.links import LINKS
from infra.manifest import Manifest
from infra.properties import to_properties
from infra.state import MANIFEST

__all__ = ["write_manifest"]


def write_manifest(layout: Layout) -> Manifest:
    """Writes what is known from the settings alone; every part writes the same."""
    settings = to_properties(layout.settings)
    regions = {name: _region(layout, name) for name in ("a", "b")}
    provider = layout.url("provider") if payments.has_provider(layout) else None
    content = {
        "version": 1,
        "name": layout.settings.name,
        "directory": str(layout.root),
        "ca": str(layout.ca),
        "api_token_file": str(layout.secret("api-token")),
        "payments_token_file": str(layout.secret("payments-token")),
        "control_token_file": str(layout.secret("control-token")),
        "signer": dapr.SIGNER,
        "client_cert": str(layout.client.certificate),
        "client_key": str(layout.client.key),
        "regions": regions,
        "witness": {
            **_site(layout, "witness"),
            "observer": layout.url("w.observer"),
            "etcd": layout.url("w.etcd"),
            "prometheus": layout.url("w.prometheus") if layout.settings.prometheus.enabled else None,
        },
        "payments": {**_site(layout, "payments"), "url": layout.url("payments"), "provider": provider},
        "wan": {
            **_site(layout, "wan"),
            "toxiproxy": f"http://{layout.address('wan.toxiproxy')}",
            "links": [
                {
                    "name": link.name,
                    "source": link.source,
                    "target": link.target,
                    "line": link.line,
                    "listen": layout.address(link.port),
                    "upstream": layout.address(link.upstream),
                }
                for link in LINKS
            ],
        },
        "settings": settings,
    }
    manifest = Manifest.model_validate(content)
    write(layout.root / MANIFEST, json.dumps(content, indent=1) + "\n", mode=PUBLIC)
    return manifest


def _site(layout: Layout, name: str) -> dict[str, object]:
    return {"site": name, "directory": str(layout.site(name))}


def _region(layout: Layout, name: str) -> dict[str, object]:
    data = layout.data(SITE_NAMES[name])
    return {
        **_site(layout, SITE_NAMES[name]),
        "api": layout.url(f"{name}.api"),
        "agent": layout.url(f"{name}.agent"),
        "patroni": layout.url(f"{name}.patroni"),
        "postgres_port": layout.ports[f"{name}.postgres"],
        "etcd": layout.url(f"{name}.etcd"),
        "supervisor_socket": str(layout.site(SITE_NAMES[name]) / "supervisor.sock"),
        "role_file": str(data / "role.json"),
        "events_file": str(data / "region-agent.jsonl"),
        "attempts_dir": str(data),
        "workers": region.worker_names(layout),
        "sidecars": dapr.sidecar_names(layout),
    }
