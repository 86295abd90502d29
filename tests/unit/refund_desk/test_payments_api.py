"""The payments service takes an effect only with a key, an epoch and a caller, and says what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from refund_desk.payments.app import MAX_BODY_BYTES, build_app
from refund_desk.payments.ledger import Ledger

pytestmark = pytest.mark.unit

TOKEN, CONTROL = "payments-token", "control-token"
CALLER = {
    "Idempotency-Key": "run-1:7",
    "Holdfast-Run": "run-1",
    "Holdfast-Region": "a",
    "Holdfast-Epoch": "3",
    "Holdfast-Worker": "worker-1",
    "Holdfast-Attempt": "1",
}
REFUND = {"ticket_id": "T-1", "order_id": "ORD-1", "amount": "10.00", "currency": "EUR"}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    yield ledger
    ledger.close()


@pytest.fixture
def client(ledger: Ledger) -> Iterator[TestClient]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with TestClient(build_app(ledger, TOKEN, CONTROL), raise_server_exceptions=False, headers=headers) as client:
        yield client


def detail_of(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    return str(response.json()["detail"])


def test_an_effect_is_applied_and_told_apart_from_its_duplicate(client: TestClient) -> None:
    first = client.post("/refunds", json=REFUND, headers=CALLER)
    again = client.post("/refunds", json=REFUND, headers=CALLER | {"Holdfast-Attempt": "2"})
    assert (first.status_code, again.status_code) == (200, 200)
    assert (first.json()["outcome"], again.json()["outcome"]) == ("applied", "duplicate")
    assert first.json()["result"] == again.json()["result"]


@pytest.mark.parametrize("missing", CALLER)
def test_an_effect_without_one_of_its_headers_is_refused_by_that_name(
    client: TestClient, ledger: Ledger, missing: str
) -> None:
    headers = {name: value for name, value in CALLER.items() if name != missing}
    detail = detail_of(client.post("/refunds", json=REFUND, headers=headers), 422)
    assert f"header.{missing.lower()}" in detail
    assert ledger.entries() == []


@pytest.mark.parametrize("epoch", ["", "-1", "x", "1.5", "٣".encode().decode("latin-1"), str(2**53 + 1), "9" * 400])
def test_an_epoch_that_is_none_is_refused(client: TestClient, ledger: Ledger, epoch: str) -> None:
    headers = {k: v.encode("latin-1") for k, v in (CALLER | {"Holdfast-Epoch": epoch}).items()}
    assert "header.holdfast-epoch" in detail_of(client.post("/refunds", json=REFUND, headers=headers), 422)
    assert ledger.entries() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("Idempotency-Key", ""), ("Idempotency-Key", "x" * 201), ("Holdfast-Run", "a b"), ("Holdfast-Attempt", "0")],
)
def test_a_caller_that_is_not_named_properly_is_refused(
    client: TestClient, ledger: Ledger, name: str, value: str
) -> None:
    detail = detail_of(client.post("/refunds", json=REFUND, headers=CALLER | {name: value}), 422)
    assert f"header.{name.lower()}" in detail
    assert ledger.entries() == []


@pytest.mark.parametrize("authorization", ["", "Bearer wrong"])
def test_a_wrong_token_is_refused_before_anything_is_looked_at(
    client: TestClient, ledger: Ledger, authorization: str
) -> None:
    for response in (
        client.post("/refunds", json=REFUND, headers=CALLER | {"Authorization": authorization}),
        client.get("/ledger", headers={"Authorization": authorization}),
    ):
        detail_of(response, 401)
    assert ledger.entries() == []


def test_a_stale_epoch_is_refused_and_recorded(client: TestClient, ledger: Ledger) -> None:
    client.post("/refunds", json=REFUND, headers=CALLER | {"Holdfast-Epoch": "4", "Idempotency-Key": "run-2:1"})
    response = client.post("/refunds", json=REFUND, headers=CALLER)
    assert "epoch 3 is over" in detail_of(response, 409)
    assert response.json()["title"] == "stale epoch"
    assert [entry.outcome for entry in ledger.entries()] == ["applied", "stale"]


def test_a_key_that_is_used_for_another_effect_is_refused_and_recorded(client: TestClient, ledger: Ledger) -> None:
    client.post("/refunds", json=REFUND, headers=CALLER)
    response = client.post("/refunds", json=REFUND | {"amount": "11.00"}, headers=CALLER)
    assert "run-1:7" in detail_of(response, 409)
    assert response.json()["title"] == "conflicting payload"
    assert [entry.outcome for entry in ledger.entries()] == ["applied", "conflict"]


def test_an_effect_of_no_known_kind_is_refused(client: TestClient, ledger: Ledger) -> None:
    detail_of(client.post("/gifts", json=REFUND, headers=CALLER), 422)
    assert ledger.entries() == []


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b"{", b"null"])
def test_a_payload_that_is_no_object_is_refused(client: TestClient, ledger: Ledger, body: bytes) -> None:
    headers = CALLER | {"Content-Type": "application/json"}
    detail_of(client.post("/refunds", content=body, headers=headers), 422)
    assert ledger.entries() == []


@pytest.mark.parametrize("amount", ["", '"much"', "NaN", "Infinity", "null"])
def test_an_approval_of_no_amount_is_refused(client: TestClient, ledger: Ledger, amount: str) -> None:
    body = f'{{"amount": {amount}}}' if amount else "{}"
    headers = CALLER | {"Content-Type": "application/json"}
    assert "amount" in detail_of(client.post("/approvals", content=body, headers=headers), 422)
    assert ledger.entries() == []


def test_a_body_over_the_limit_is_refused(client: TestClient, ledger: Ledger) -> None:
    response = client.post("/notes", json={"text": "x" * MAX_BODY_BYTES}, headers=CALLER)
    assert str(MAX_BODY_BYTES) in detail_of(response, 413)
    assert ledger.entries() == []


def test_the_ledger_is_read_page_by_page(client: TestClient) -> None:
    for number in range(3):
        client.post("/notes", json={"text": "x"}, headers=CALLER | {"Idempotency-Key": f"run-1:{number}"})
    assert [entry["seq"] for entry in client.get("/ledger?limit=2").json()] == [1, 2]
    page = client.get("/ledger?after=2").json()
    assert [(e["seq"], e["key"], e["region"], e["epoch"], e["outcome"]) for e in page] == [
        (3, "run-1:2", "a", 3, "applied")
    ]


@pytest.mark.parametrize("query", ["after=-1", "limit=0", "limit=10001", "after=x"])
def test_a_page_that_makes_no_sense_is_refused(client: TestClient, query: str) -> None:
    detail_of(client.get(f"/ledger?{query}"), 422)


def test_health_needs_no_token(client: TestClient) -> None:
    assert client.get("/healthz", headers={"Authorization": ""}).json() == {"status": "ok"}


def test_a_reply_that_is_lost_is_the_reply_to_an_effect_that_was_applied(client: TestClient, ledger: Ledger) -> None:
    control = {"Authorization": f"Bearer {CONTROL}"}
    assert client.put("/control/replies", json={"to_lose": 1}, headers=control).is_success
    client.post("/refunds", json=REFUND, headers=CALLER)
    again = client.post("/refunds", json=REFUND, headers=CALLER)
    assert again.json()["outcome"] == "duplicate"
    assert [entry.outcome for entry in ledger.entries()] == ["applied", "duplicate"]
    assert client.get("/control/replies", headers=control).json() == {"to_lose": 0, "lost": 1}


@pytest.mark.parametrize("authorization", ["", f"Bearer {TOKEN}"])
def test_who_may_pay_may_not_have_replies_lost(client: TestClient, authorization: str) -> None:
    headers = {"Authorization": authorization}
    detail_of(client.put("/control/replies", json={"to_lose": 1}, headers=headers), 401)
    detail_of(client.get("/control/replies", headers=headers), 401)


@pytest.mark.parametrize("loss", [{}, {"to_lose": -1}, {"to_lose": 1, "other": 1}, {"to_lose": "x"}])
def test_a_loss_of_replies_that_makes_no_sense_is_refused(client: TestClient, loss: dict[str, object]) -> None:
    detail_of(client.put("/control/replies", json=loss, headers={"Authorization": f"Bearer {CONTROL}"}), 422)
