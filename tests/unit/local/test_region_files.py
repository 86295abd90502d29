"""What a region is told: closed doors, no secret on a command line, every line over the WAN."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import stat
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from infra import database
from infra.local import dapr, postgres, prometheus, region, target, wan, witness
from infra.local.layout import Layout
from infra.local.links import LINKS
from infra.local.site import Process
from infra.manifest import Manifest
from infra.topology import EarlyRelease

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is run here, so nothing needs to be built."""
    from infra.local import etcd

    for module in (dapr, etcd, prometheus, wan):
        monkeypatch.setattr(module, "require", lambda names: {name: Path("/tools") / name for name in names})
    found = dataclasses.make_dataclass("Found", ["bin"])(Path("/postgres"))
    monkeypatch.setattr(postgres, "find_postgres", lambda: found)


@pytest.fixture
def a(layout: Layout) -> Layout:
    region.write_files(layout, "a")
    return layout


def read(layout: Layout, site: str, name: str) -> Any:
    return yaml.safe_load(layout.config(site, name).read_text(encoding="utf-8"))


def by_name(layout: Layout, where: str) -> dict[str, Process]:
    return {process.name: process for process in region.site(layout, where).processes}


def test_writing_twice_changes_nothing(layout: Layout) -> None:
    assert region.write_files(layout, "a")
    assert not region.write_files(layout, "a")
    assert witness.write_files(layout)
    assert not witness.write_files(layout)
    assert wan.write_files(layout)
    assert not wan.write_files(layout)


def test_a_changed_setting_changes_the_files(a: Layout) -> None:
    settings = dataclasses.replace(a.settings, early_release=EarlyRelease(enabled=False, silence_seconds=9.0))
    assert region.write_files(dataclasses.replace(a, settings=settings), "a")
    assert read(a, "region-a", "region-agent.json")["early_release"] == {
        "enabled": False,
        "silence_seconds": 9.0,
    }


def test_only_region_a_may_bootstrap_the_database(a: Layout) -> None:
    region.write_files(a, "b")
    assert "bootstrap" in read(a, "region-a", "patroni.yaml")
    assert "bootstrap" not in read(a, "region-b", "patroni.yaml")


def test_the_database_has_no_door_without_tls_certificate_and_password(a: Layout) -> None:
    config = read(a, "region-a", "patroni.yaml")["postgresql"]
    for rule in config["pg_hba"]:
        assert rule.startswith("hostssl ")
        assert "scram-sha-256 clientcert=verify-ca" in rule
    assert config["parameters"]["unix_socket_directories"] == ""


def test_what_a_region_dials_outside_itself_is_always_a_link(a: Layout) -> None:
    """Its own ports, links that start in it, and the world outside: nothing of the other region directly."""
    own = {port for name, port in a.ports.items() if name.startswith("a.")}
    links = {a.ports[link.port] for link in LINKS if link.source == "a"}
    patroni = read(a, "region-a", "patroni.yaml")
    for host in patroni["etcd3"]["hosts"]:
        assert int(host.rpartition(":")[2]) in own | links
    assert patroni["etcd3"]["use_proxies"] is True
    agent = read(a, "region-a", "region-agent.json")
    addresses = [agent[key] for key in ("patroni", "peer_patroni", "etcd", "peer_etcd", "observer")]
    for address in [*addresses, *agent["etcd_others"]]:
        assert int(address.rpartition(":")[2]) in own | links


def test_a_region_tells_the_other_to_reach_it_over_the_link_that_starts_there(a: Layout) -> None:
    config = read(a, "region-a", "patroni.yaml")
    assert config["postgresql"]["connect_address"] == a.link("b", "a", "postgres")
    assert config["restapi"]["connect_address"] == a.link("b", "a", "patroni")


def test_a_console_has_two_tokens_and_only_its_region_s_agent_to_ask(a: Layout) -> None:
    console = read(a, "region-a", "service.json")["console"]
    assert console["agent"] == a.url("a.agent")
    tokens = {name: Path(console[f"{name}_token_file"]).read_text().strip() for name in ("viewer", "operator")}
    assert len(set(tokens.values())) == 2
    assert all(len(token) > 30 for token in tokens.values())
    agent = read(a, "region-a", "region-agent.json")
    assert agent["operator_token_file"] == console["operator_token_file"]


def test_no_secret_is_on_a_command_line(a: Layout) -> None:
    secrets = {a.secret(name).read_text().strip() for name in target._SECRETS}
    secrets.add(a.config("region-a", "dapr-api-token").read_text().strip())
    for process in region.site(a, "a").processes:
        assert not any(secret in " ".join(process.command) for secret in secrets)


def test_every_file_with_a_secret_is_its_owner_s_alone(a: Layout) -> None:
    for path in a.site("region-a").rglob("*"):
        if path.is_file() and path.suffix != ".crt":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_the_region_agent_starts_the_scheduler_and_the_sidecars_and_the_supervisor_the_rest(
    a: Layout,
) -> None:
    asleep = {name for name, process in by_name(a, "a").items() if not process.autostart}
    assert asleep == {"scheduler", "daprd-1", "daprd-2"}
    assert {"etcd", "postgres", "sentry", "placement", "region-agent", "api"} <= set(by_name(a, "a"))
    assert {"worker-1", "worker-2"} <= set(by_name(a, "a"))


def test_there_are_as_many_workers_with_their_own_sidecar_as_configured(a: Layout) -> None:
    more = dataclasses.replace(a, settings=dataclasses.replace(a.settings, workers=4))
    region.write_files(more, "a")
    names = set(by_name(more, "a"))
    assert {"worker-4", "daprd-4"} <= names
    workers = [read(more, "region-a", f"worker-{number}.json")["dapr"]["grpc_port"] for number in range(1, 5)]
    assert len(set(workers)) == 4


def test_the_app_s_environment_reaches_the_app_and_nobody_else(layout: Layout) -> None:
    settings = dataclasses.replace(layout.settings, environment={"MODEL_KEY": "k"})
    rich = dataclasses.replace(layout, settings=settings)
    region.write_files(rich, "a")
    told = {name for name, process in by_name(rich, "a").items() if "MODEL_KEY" in process.environment}
    assert told == {"worker-1", "worker-2", "api", "region-agent"}
    assert "k" not in json.loads((rich.root / "deployment.json").read_text())["settings"]["environment"]


def test_sentry_wants_a_token_and_each_process_has_one(a: Layout) -> None:
    spec = read(a, "region-a", "sentry.yaml")["spec"]
    assert [validator["name"] for validator in spec["mtls"]["tokenValidators"]] == ["jwks"]
    for name in ("placement", "scheduler", "daprd-1"):
        assert Path(by_name(a, "a")[name].environment["DAPR_SENTRY_TOKEN_FILE"]).exists()


def test_histories_are_signed_and_messages_bounded(a: Layout) -> None:
    features = read(a, "region-a", "daprd.yaml")["spec"]["features"]
    assert {"name": "WorkflowHistorySigning", "enabled": True} in features
    command = by_name(a, "a")["daprd-1"].command
    assert "--max-body-size=4Mi" in command
    assert "--enable-mtls=true" in command


def test_the_password_s_verifier_is_what_postgresql_computes() -> None:
    verifier = database.scram("secret")
    head, keys = verifier.removeprefix("SCRAM-SHA-256$").split("$")
    iterations, salt = head.split(":")
    stored, server = (base64.b64decode(key) for key in keys.split(":"))
    salted = hashlib.pbkdf2_hmac("sha256", b"secret", base64.b64decode(salt), int(iterations))
    assert stored == hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    assert server == hmac.digest(salted, b"Server Key", "sha256")


def test_a_value_with_blanks_or_quotes_survives_the_dsn() -> None:
    import psycopg.conninfo

    text = f"password={database._quoted(chr(39) + ' x' + chr(92))}"
    assert psycopg.conninfo.conninfo_to_dict(text)["password"] == "' x\\"


def test_every_member_reaches_only_its_two_peers_each_by_its_own_link(layout: Layout) -> None:
    wan.write_files(layout)
    routes = cast("dict[str, dict[str, str]]", json.loads(layout.config("wan", "gateway.json").read_text())["ports"])
    mine = routes[str(layout.ports["gateway.a"])]
    assert set(mine.values()) == {layout.link("a", "b", "etcd-peer"), layout.link("a", "w", "etcd-peer")}
    assert {host.split(":")[0] for host in mine} == {"etcd-b.holdfast.local", "etcd-w.holdfast.local"}


def test_the_manifest_is_one_and_holds_no_secret(layout: Layout) -> None:
    manifest = Manifest.load(layout.root)
    assert set(manifest.regions) == {"a", "b"}
    assert len(manifest.wan.links) == len(LINKS)
    text = (layout.root / "deployment.json").read_text()
    assert not any(layout.secret(name).read_text().strip() in text for name in target._SECRETS)
