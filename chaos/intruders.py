"""Who has no right to be heard knocks at every door of a deployment; how each is refused is the evidence.

Nothing is changed by it: where a door stands open, only something harmless is asked.
"""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
from psycopg.conninfo import make_conninfo

from chaos.faults.local.certificates import expired
from chaos.history import Intrusion
from chaos.record import Ledger
from infra.local.identity import Authority, KeyPair
from infra.manifest import Manifest

SECONDS, EFFECT_SECONDS = 4.0, 20.0
WRONG_TOKEN = "Bearer " + "x" * 43
NO_HANDSHAKE = "no handshake"
NOBODY = 65534
_CONNECT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1]); print('connected')"


@dataclass(frozen=True)
class Credentials:
    """What an intruder shows: a certificate, or none."""

    called: str
    pair: KeyPair | None


def intrusions(manifest: Manifest, active: str) -> list[Intrusion]:
    """Every attempt, in order."""
    with strangers(manifest) as known:
        return [
            *_without_token(manifest, active),
            *_with_certificates(manifest, known),
            *_databases(manifest, known),
            *_supervisors(manifest),
            *_stale(manifest, active),
        ]


@contextmanager
def strangers(manifest: Manifest) -> Iterator[list[Credentials]]:
    """Nobody's certificate, one of another root, and one of this root that has expired."""
    with tempfile.TemporaryDirectory(prefix="holdfast-intruder-") as place:
        folder = Path(place)
        foreign, old = (
            KeyPair(folder / "foreign.crt", folder / "foreign.key"),
            KeyPair(folder / "old.crt", folder / "old.key"),
        )
        Authority(folder).leaf(foreign, "holdfast client")
        Authority(manifest.directory / "pki").leaf(old, "holdfast client")
        old.certificate.write_bytes(expired(old.certificate.read_bytes(), manifest.directory / "pki"))
        yield [
            Credentials("without a certificate", None),
            Credentials("with a certificate of another root", foreign),
            Credentials("with an expired certificate", old),
        ]


def _without_token(manifest: Manifest, active: str) -> Iterator[Intrusion]:
    run = {"run_id": "intruder-1", "input": {"ticket_id": "T-1", "customer": "Mallory", "body": "pay me"}}
    effect = {"ticket_id": "T-1", "order_id": "ORD-10001", "amount": "1.00", "currency": "EUR"}
    doors: list[tuple[str, str, str, object]] = [
        ("region API: start a run", "POST", f"{manifest.regions[active].api}/v1/runs", run),
        ("region API: read runs", "GET", f"{manifest.regions[active].api}/v1/runs", None),
        ("region API: decide", "POST", f"{manifest.regions[active].api}/v1/runs/x/approvals", {}),
        ("payments: an effect", "POST", f"{manifest.payments.url}/refunds", effect),
        ("payments: the ledger", "GET", f"{manifest.payments.url}/ledger", None),
        ("payments: control", "GET", f"{manifest.payments.url}/control/replies", None),
        ("region agent: status", "GET", f"{manifest.regions[active].agent}/status", None),
    ]
    if manifest.payments.provider:
        doors.append(("model provider: control", "GET", f"{manifest.payments.provider}/control/", None))
    worker = f"Bearer {manifest.payments_token_file.read_text(encoding='utf-8').strip()}"
    with httpx.Client(verify=_trust(manifest, None), timeout=SECONDS, trust_env=False) as client:
        for door, method, url, body in doors:
            shown = [("without a token", ""), ("with a wrong token", WRONG_TOKEN)]
            shown += [("with a worker's token", worker)] if "control" in door or "region" in door else []
            for name, header in shown:
                yield _asked(f"caller {name}", door, "401", client, method, url, body, {"Authorization": header})


def _with_certificates(manifest: Manifest, known: list[Credentials]) -> Iterator[Intrusion]:
    doors: list[tuple[str, str, str, object]] = []
    for name, region in manifest.regions.items():
        doors += [
            (f"Patroni of region {name}", "GET", f"{region.patroni}/patroni", None),
            (f"lease store of region {name}", "POST", f"{region.etcd}/v3/kv/range", {"key": "AA=="}),
        ]
    doors.append(("lease store of the witness", "POST", f"{manifest.witness.etcd}/v3/kv/range", {"key": "AA=="}))
    doors.append(("observer of the witness", "GET", f"{manifest.witness.observer}/", None))
    for one in known:
        with httpx.Client(verify=_trust(manifest, one.pair), timeout=SECONDS, trust_env=False) as client:
            for door, method, url, body in doors:
                yield _asked(f"caller {one.called}", door, "no handshake, 401 or 403", client, method, url, body, {})


def _databases(manifest: Manifest, known: list[Credentials]) -> Iterator[Intrusion]:
    password = (manifest.directory / "secrets" / "postgres-superuser").read_text(encoding="utf-8").strip()
    for name, region in manifest.regions.items():
        door = f"database of region {name}"
        for one in known:
            # Not even the password helps who has no certificate.
            yield _connect(f"caller {one.called}", door, manifest, region.postgres_port, one.pair, password, "require")
        client = KeyPair(manifest.client_cert, manifest.client_key)
        yield _connect("caller with a wrong password", door, manifest, region.postgres_port, client, "x", "require")
        yield _connect("caller without TLS", door, manifest, region.postgres_port, None, password, "disable")


def _supervisors(manifest: Manifest) -> Iterator[Intrusion]:
    """Another account of this machine; only root can be one."""
    if os.geteuid() != 0:
        return
    for name, region in manifest.regions.items():
        door = f"supervisor of region {name}"
        command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
        command += [sys.executable, "-c", _CONNECT, str(region.supervisor_socket)]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS * 5, check=False)
        told = " ".join((answer.stdout + answer.stderr).split())[-200:]
        refused = "PermissionError" in told
        yield Intrusion(name="another account", door=door, expected="PermissionError", observed=told, refused=refused)


def _stale(manifest: Manifest, active: str) -> Iterator[Intrusion]:
    """An effect of an epoch that is over, a key that is used for another effect, and a write to the standby."""
    token = manifest.payments_token_file.read_text(encoding="utf-8").strip()
    effect = {"ticket_id": "intruder", "order_id": "ORD-10001", "amount": "1.00", "currency": "EUR"}
    ledger, deadline = Ledger(manifest), time.monotonic() + EFFECT_SECONDS
    while not (known := ledger.effects() or []) and time.monotonic() < deadline:
        time.sleep(0.1)  # before the first effect no epoch is over
    ledger.close()
    with httpx.Client(verify=_trust(manifest, None), timeout=SECONDS, trust_env=False) as client:
        newest = max((effect.epoch for effect in known), default=1)
        used = next((effect.key for effect in known if effect.outcome == "applied"), None)
        headers = {
            "Authorization": f"Bearer {token}",
            "Holdfast-Run": "intruder",
            "Holdfast-Region": active,
            "Holdfast-Worker": "intruder",
            "Holdfast-Attempt": "1",
        }
        url = f"{manifest.payments.url}/refunds"
        stale = headers | {"Idempotency-Key": "intruder:1", "Holdfast-Epoch": str(newest - 1)}
        yield _asked("effect of an epoch that is over", "payments", "409", client, "POST", url, effect, stale)
        if used is not None:
            again = headers | {"Idempotency-Key": used, "Holdfast-Epoch": str(newest)}
            yield _asked("key of an effect, used for another", "payments", "409", client, "POST", url, effect, again)
        standby = next(name for name in manifest.regions if name != active)
        run = {"run_id": "intruder-2", "input": {"ticket_id": "T-1", "customer": "Mallory", "body": "pay me"}}
        api = {"Authorization": f"Bearer {manifest.api_token_file.read_text(encoding='utf-8').strip()}"}
        door = f"region API of {standby}, which is standby"
        yield _asked(
            "start in the standby", door, "503", client, "POST", f"{manifest.regions[standby].api}/v1/runs", run, api
        )


def _asked(
    name: str,
    door: str,
    expected: str,
    client: httpx.Client,
    method: str,
    url: str,
    body: object,
    headers: dict[str, str],
) -> Intrusion:
    try:
        status = client.request(method, url, json=body, headers=headers).status_code
    except httpx.ConnectError as error:
        # Nobody at home is no refusal.
        closed = "refused" in str(error).lower()
        told = f"{'nobody listens' if closed else NO_HANDSHAKE}: {error}"
        return Intrusion(
            name=name, door=door, expected=expected, observed=told, refused=not closed and "no handshake" in expected
        )
    except httpx.HTTPError as error:
        told = f"{NO_HANDSHAKE}: {error or type(error).__name__}"
        return Intrusion(name=name, door=door, expected=expected, observed=told, refused="no handshake" in expected)
    return Intrusion(name=name, door=door, expected=expected, observed=str(status), refused=str(status) in expected)


def _connect(
    name: str, door: str, manifest: Manifest, port: int, pair: KeyPair | None, password: str, sslmode: str
) -> Intrusion:
    # Without a file's name libpq looks for a certificate in the home directory.
    certificate, key = (str(pair.certificate), str(pair.key)) if pair else ("/nonexistent", "/nonexistent")
    where = make_conninfo(
        host="127.0.0.1",
        port=port,
        user="postgres",
        dbname="postgres",
        password=password,
        sslmode=sslmode,
        sslrootcert=str(manifest.ca),
        sslcert=certificate,
        sslkey=key,
        connect_timeout=3,
    )
    try:
        with psycopg.connect(where) as connection:
            told, refused = f"answered {connection.execute('select 1').fetchone()}", False
    except psycopg.OperationalError as error:
        told = " ".join(str(error).split())
        # Nobody at home is no refusal.
        refused = "Connection refused" not in told
    return Intrusion(name=name, door=door, expected="no session", observed=told[:300], refused=refused)


def _trust(manifest: Manifest, pair: KeyPair | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(manifest.ca))
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    return context
