"""A real Patroni makes the database, whatever was lost while it began."""

from __future__ import annotations

import base64
import ssl
import time
from collections.abc import Callable

import httpx
import pytest

from infra.local import postgres
from infra.local.health import Looker
from infra.local.layout import Layout

pytestmark = pytest.mark.component

INITIALIZE = base64.b64encode(b"/service/holdfast/initialize").decode()


def test_a_promised_database_that_nobody_makes_is_made_after_all(
    start: Callable[[str, set[str]], object], layout: Layout
) -> None:
    start("wan", {"toxiproxy", "gateway"})
    start("witness", {"etcd"})
    start("region-b", {"etcd"})
    context = ssl.create_default_context(cafile=str(layout.ca))
    context.load_cert_chain(layout.client.certificate, layout.client.key)
    promise, withdrawn = postgres.Promise(layout), False
    with Looker(layout) as look, httpx.Client(verify=context, trust_env=False) as client:
        wait_for(lambda: look.quorum("w").good)
        # What Patroni writes first; its answer is lost.
        client.post(f"{layout.url('w.etcd')}/v3/kv/put", json={"key": INITIALIZE, "value": ""}).raise_for_status()
        start("region-a", {"etcd", "postgres"})
        wait_for(lambda: look.patroni("a"))
        deadline = time.monotonic() + 60
        while not (seen := look.database("a")).good:
            assert time.monotonic() < deadline, seen.detail
            withdrawn |= promise.mend(look.patroni("a") or {})
            time.sleep(0.2)
        assert withdrawn
        assert not promise.mend(look.patroni("a") or {})


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
