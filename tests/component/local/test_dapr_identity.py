"""A real Sentry gives an identity to whoever holds its token, and to nobody else."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import httpx
import pytest

from infra.local import region
from infra.local.layout import Layout
from infra.local.supervisor import log_tail, start_site, stop_site

pytestmark = pytest.mark.component


def healthy(layout: Layout, name: str) -> bool:
    try:
        url = f"http://{layout.address(name)}/healthz"
        return httpx.get(url, timeout=1, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def test_sentry_refuses_a_process_whose_token_is_for_another_identity_or_missing(
    start: Callable[[str, set[str]], object], layout: Layout
) -> None:
    start("region-a", {"sentry", "placement"})
    deadline = time.monotonic() + 15
    while not (healthy(layout, "a.sentry-health") and healthy(layout, "a.placement-health")):
        assert time.monotonic() < deadline, "sentry and placement did not become healthy with their tokens"
        time.sleep(0.1)
    whole = region.site(layout, "a")
    honest = next(process for process in whole.processes if process.name == "scheduler")
    thief = str(layout.config("region-a", "daprd.token"))
    environments = {
        "thief": {**honest.environment, "DAPR_SENTRY_TOKEN_FILE": thief},
        "nobody": {k: v for k, v in honest.environment.items() if k != "DAPR_SENTRY_TOKEN_FILE"},
    }
    for name, environment in environments.items():
        process = dataclasses.replace(honest, name=name, environment=environment, autostart=True)
        site = dataclasses.replace(whole, name=name, directory=layout.root / "strangers", processes=(process,))
        try:
            start_site(site)
            log, said = site.log(name), ""
            deadline = time.monotonic() + 15
            while "error from sentry SignCertificate" not in said:
                assert time.monotonic() < deadline, f"{name} was not refused: {log_tail(site, name)}"
                time.sleep(0.1)
                said = log.read_text(encoding="utf-8") if log.exists() else ""
            assert not healthy(layout, "a.scheduler-health")
        finally:
            stop_site(site)
