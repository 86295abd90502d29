"""Three real lease store members that reach each other only over the WAN's links."""

from __future__ import annotations

import base64
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psycopg
import pytest

from infra.local import postgres, wan
from infra.local.health import Looker
from infra.local.layout import Layout
from infra.local.links import LINKS
from infra.local.ports import is_free
from infra.local.site import Site, kill_site, members
from infra.local.supervisor import start_site

pytestmark = pytest.mark.component

KEY = base64.b64encode(b"probe").decode()


@pytest.fixture(scope="module")
def wide(start: Callable[[str, set[str]], object], layout: Layout) -> Layout:
    """The WAN, three members of the lease store, and region a's database."""
    start("wan", {"toxiproxy", "gateway"})
    start("witness", {"etcd"})
    start("region-a", {"etcd", "postgres"})
    start("region-b", {"etcd"})
    return layout


@pytest.fixture(scope="module")
def look(wide: Layout) -> Iterator[Looker]:
    with Looker(wide) as looker:
        yield looker


@pytest.fixture
def client(wide: Layout) -> Iterator[httpx.Client]:
    context = ssl.create_default_context(cafile=str(wide.ca))
    context.load_cert_chain(wide.client.certificate, wide.client.key)
    with httpx.Client(verify=context, timeout=3, trust_env=False) as made:
        yield made


@pytest.fixture
def whole(wide: Layout) -> Iterator[None]:
    yield
    wan.reset(wide)


def cut(layout: Layout, *pairs: str) -> None:
    api = f"http://{layout.address('wan.toxiproxy')}"
    for link in LINKS:
        if "".join(sorted(link.source + link.target)) in pairs:
            httpx.post(f"{api}/proxies/{link.name}", json={"enabled": False}).raise_for_status()


def wait_for(look: Looker, where: str, wanted: bool, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while (seen := look.quorum(where)).good is not wanted:
        assert time.monotonic() < deadline, f"{where}: {seen.detail}, wanted quorum: {wanted}"
        time.sleep(0.1)


def members_status(client: httpx.Client, layout: Layout) -> dict[str, dict[str, Any]]:
    return {
        where: client.post(f"{layout.url(f'{where}.etcd')}/v3/maintenance/status", json={}).json()
        for where in ("a", "b", "w")
    }


def wait_for_one_leader(client: httpx.Client, layout: Layout, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        seen = {where: one.get("leader") for where, one in members_status(client, layout).items()}
        if len(set(seen.values())) == 1 and "0" not in seen.values() and None not in seen.values():
            return
        assert time.monotonic() < deadline, f"leaders: {seen}"
        time.sleep(0.1)


@pytest.mark.usefixtures("whole")
def test_while_only_the_regions_cannot_see_each_other_every_member_that_leads_through_the_witness_serves(
    wide: Layout, look: Looker, client: httpx.Client
) -> None:
    for where in ("a", "b", "w"):
        wait_for(look, where, True)
    wait_for_one_leader(client, wide)
    cut(wide, "ab")
    # Whoever leads now, the witness sees both, so at least two members have a leader they agree on.
    deadline = time.monotonic() + 20
    while True:
        body = {"key": KEY, "value": KEY}
        answers = {}
        for where in ("a", "b", "w"):
            try:
                answers[where] = client.post(f"{wide.url(f'{where}.etcd')}/v3/kv/put", json=body).status_code
            except httpx.HTTPError as error:
                answers[where] = type(error).__name__
        if answers["w"] == 200 and 200 in (answers["a"], answers["b"]):
            break
        assert time.monotonic() < deadline, answers
        time.sleep(0.2)
    wan.reset(wide)
    for where in ("a", "b", "w"):
        wait_for(look, where, True)


@pytest.mark.usefixtures("whole")
def test_a_region_whose_links_are_all_cut_has_no_quorum_as_there_is_no_other_way_out(
    wide: Layout, look: Looker
) -> None:
    for where in ("a", "b", "w"):
        wait_for(look, where, True)
    cut(wide, "ab", "aw")
    wait_for(look, "a", False)
    wait_for(look, "b", True)
    wait_for(look, "w", True)
    wan.reset(wide)
    wait_for(look, "a", True)


def test_the_gateway_refuses_what_is_no_member(wide: Layout) -> None:
    proxy = f"http://{wide.address('gateway.a')}"
    with httpx.Client(proxy=proxy, trust_env=False) as client, pytest.raises(httpx.ProxyError, match="403"):
        client.get(f"https://127.0.0.1:{wide.ports['b.etcd']}/health")


@pytest.mark.parametrize("door", ["a.etcd", "a.etcd-peer", "a.patroni"])
def test_a_client_without_a_certificate_is_refused(wide: Layout, look: Looker, door: str) -> None:
    wait_for_database(look)
    context = ssl.create_default_context(cafile=str(wide.ca))
    with httpx.Client(verify=context, trust_env=False) as stranger, pytest.raises(httpx.HTTPError) as refused:
        stranger.get(f"{wide.url(door)}/")
    assert "certificate required" in str(refused.value).lower() or isinstance(
        refused.value, httpx.ReadError | httpx.RemoteProtocolError
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sslmode": "disable", "sslcert": "", "sslkey": "", "sslrootcert": ""}, "no encryption"),
        ({"sslcert": "/nonexistent", "sslkey": "/nonexistent"}, "certificate"),
        ({"password": "wrong"}, "password authentication failed"),
    ],
)
def test_the_database_demands_tls_a_certificate_and_the_password(
    wide: Layout, look: Looker, change: dict[str, str], said: str
) -> None:
    wait_for_database(look)
    good = postgres.dsn(wide, "a")
    with psycopg.connect(good) as connection:
        row = connection.execute("select current_user, current_setting('data_checksums')").fetchone()
    assert row == ("holdfast_app", "on")
    with pytest.raises(psycopg.OperationalError, match=said):
        psycopg.connect(good, **change)


def wait_for_database(look: Looker, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not (seen := look.database("a")).good:
        assert time.monotonic() < deadline, seen.detail
        time.sleep(0.1)


def test_no_password_is_in_the_database_s_log(wide: Layout, look: Looker) -> None:
    wait_for_database(look)
    log = (wide.site("region-a") / "logs" / "postgres.log").read_text(encoding="utf-8")
    for value in vars(postgres.read_passwords(wide)).values():
        assert value not in log
        shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        assert value not in shown


def test_killing_a_region_ends_its_database_too_and_it_comes_back_from_its_files(wide: Layout, look: Looker) -> None:
    wait_for_database(look)
    region = Site.existing("region-a", wide.root)
    names = {one.name() for one in members(region.name, region.directory, region.deployment)}
    assert {"postgres", "etcd", "process-compose"} <= names
    kill_site(region.name, region.directory, region.deployment)
    assert members(region.name, region.directory, region.deployment) == []
    assert look.patroni("a") is None
    assert all(is_free(wide.ports[f"a.{name}"]) for name in ("postgres", "patroni", "etcd", "etcd-peer"))
    start_site(region)
    wait_for_database(look, 60.0)
