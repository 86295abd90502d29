"""The Prometheus at the witness reaches every part as it should be reached, and lets in holders of a certificate."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.local import dapr, etcd, payments, prometheus, region, witness
from infra.local.layout import Layout
from infra.local.links import LINKS
from infra.topology import Prometheus

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is run here, so nothing needs to be built."""
    for module in (dapr, etcd, prometheus):
        monkeypatch.setattr(module, "require", lambda names: {name: Path("/tools") / name for name in names})


@pytest.fixture
def config(layout: Layout) -> dict[str, Any]:
    assert witness.write_files(layout)
    assert not witness.write_files(layout)
    return yaml.safe_load(layout.config("witness", "prometheus.yaml").read_text(encoding="utf-8"))


def targets(config: dict[str, Any], job: str) -> dict[tuple[str, str], str]:
    """Where each instance of a region is reached."""
    (found,) = [one for one in config["scrape_configs"] if one["job_name"] == job]
    return {
        (one["labels"].get("region", ""), one["labels"]["instance"]): (
            one["targets"][0] + one["labels"].get("__metrics_path__", "")
        )
        for one in found["static_configs"]
    }


def test_a_region_is_reached_over_links_that_start_at_the_witness(layout: Layout, config: dict[str, Any]) -> None:
    """But for its API, which it offers to everybody."""
    mine = {layout.address(link.port) for link in LINKS if link.source == "w"}
    for job in ("region-agent", "worker", "daprd", "dapr-control-plane", "postgres", "patroni", "etcd"):
        for (where, _), address in targets(config, job).items():
            assert where == "w" or address.partition("/")[0] in mine, (job, address)
    assert targets(config, "api")["a", "api"] == layout.address("a.api")


def test_every_worker_and_sidecar_of_both_regions_is_looked_at(layout: Layout) -> None:
    more = dataclasses.replace(layout, settings=dataclasses.replace(layout.settings, workers=3))
    witness.write_files(more)
    config = yaml.safe_load(more.config("witness", "prometheus.yaml").read_text(encoding="utf-8"))
    for job, kind in (("worker", "worker"), ("daprd", "daprd")):
        assert set(targets(config, job)) == {(where, f"{kind}-{n}") for where in "ab" for n in (1, 2, 3)}
    region.write_files(more, "a")
    agent = yaml.safe_load(more.config("region-a", "region-agent.json").read_text(encoding="utf-8"))
    known = {one["process"] for one in agent["neighbours"]}
    asked = {
        path.rpartition("/")[2]
        for job in ("worker", "daprd", "dapr-control-plane")
        for path in targets(config, job).values()
    }
    assert asked == known
    assert {one["process"] for one in agent["neighbours"] if one.get("takes_token")} == {
        f"worker-{n}" for n in (1, 2, 3)
    }


def test_every_hop_but_the_bench_s_own_has_tls_and_says_who_asks(config: dict[str, Any]) -> None:
    for job in config["scrape_configs"]:
        if job["job_name"] == "wan":
            assert job["scheme"] == "http"
            continue
        assert job["scheme"] == "https"
        assert job["tls_config"]["ca_file"]
        assert ("authorization" in job) != ("cert_file" in job["tls_config"]), job["job_name"]


def test_its_token_is_one_of_its_own_and_its_files_are_its_own(layout: Layout, config: dict[str, Any]) -> None:
    (path,) = {one["authorization"]["credentials_file"] for one in config["scrape_configs"] if "authorization" in one}
    token = Path(path).read_text(encoding="utf-8").strip()
    others = [one for one in layout.secret("api-token").parent.iterdir() if one != Path(path)]
    assert token not in {one.read_text(encoding="utf-8").strip() for one in others}
    for file in ("prometheus.yaml", "prometheus-web.yaml", "rules-alerts.yaml"):
        assert stat.S_IMODE(layout.config("witness", file).stat().st_mode) == 0o600


def test_nobody_gets_in_without_a_certificate(layout: Layout, config: dict[str, Any]) -> None:
    web = yaml.safe_load(layout.config("witness", "prometheus-web.yaml").read_text(encoding="utf-8"))
    assert web["tls_server_config"]["client_auth_type"] == "RequireAndVerifyClientCert"
    assert web["tls_server_config"]["client_ca_file"] == str(layout.ca)
    (looker,) = [one for one in witness.site(layout).processes if one.name == "prometheus"]
    assert f"--web.listen-address={layout.address('w.prometheus')}" in looker.command


def test_it_looks_as_often_as_is_set_and_needs_less_time_for_it(layout: Layout) -> None:
    slow = dataclasses.replace(layout.settings, prometheus=Prometheus(scrape_seconds=30))
    witness.write_files(dataclasses.replace(layout, settings=slow))
    told = yaml.safe_load(layout.config("witness", "prometheus.yaml").read_text(encoding="utf-8"))["global"]
    assert (told["scrape_interval"], told["scrape_timeout"], told["evaluation_interval"]) == ("30s", "29s", "30s")


def test_without_it_nothing_of_it_is_needed(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "require", lambda names: pytest.fail("it is not to be run"))
    off = dataclasses.replace(layout.settings, prometheus=Prometheus(enabled=False), model="refund_desk:deterministic")
    without = dataclasses.replace(layout, settings=off)
    witness.write_files(without)
    assert not without.config("witness", "prometheus.yaml").exists()
    assert {one.name for one in witness.site(without).processes} == {"etcd", "observer"}


def test_a_provider_that_is_not_there_is_not_looked_at(layout: Layout, config: dict[str, Any]) -> None:
    assert payments.has_provider(layout)
    assert {instance for _, instance in targets(config, "outside")} == {"payments", "provider"}
    real = dataclasses.replace(layout.settings, model="refund_desk:deterministic")
    witness.write_files(dataclasses.replace(layout, settings=real))
    told = yaml.safe_load(layout.config("witness", "prometheus.yaml").read_text(encoding="utf-8"))
    assert {instance for _, instance in targets(told, "outside")} == {"payments"}
