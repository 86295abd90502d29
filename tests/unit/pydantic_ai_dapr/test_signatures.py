"""A history is proven up to the first event that is not as its signer recorded it."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai_dapr import Export, verify

from tests.support.recorded_runs import finished, scripted
from tests.support.signed_exports import SIGNER, Authority, Key, signed, wire
from tests.support.workflow_engine import BEGAN

pytestmark = pytest.mark.unit

KEYS: dict[str, Key] = {
    "ecdsa": ec.generate_private_key(ec.SECP256R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
    "rsa": rsa.generate_private_key(65537, 2048),
}
AUTHORITY = Authority()
KEY = KEYS["ecdsa"]


@cache
def unsigned() -> Export:
    return finished(scripted([[("double", 1)], [("double", 2), ("even", 2)]]))


@cache
def sound() -> Export:
    return signed(unsigned(), KEY, AUTHORITY.workload(KEY))


def changed(export: Export, member: str, position: int, value: Any) -> Export:
    values = list(getattr(export, member))
    values[position : position + 1] = value
    return export.model_copy(update={member: values})


def flipped(data: bytes, at: int, bit: int = 0) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


@pytest.mark.parametrize("kind", list(KEYS))
def test_a_history_as_it_was_signed_is_proven(kind: str) -> None:
    export = signed(unsigned(), KEYS[kind], AUTHORITY.workload(KEYS[kind]))
    found = verify(Export.model_validate_json(export.model_dump_json()), AUTHORITY.anchors, SIGNER)
    assert (found.valid, found.reason, found.signers, found.ended) == (True, None, (SIGNER,), True)
    assert found.proven == found.events == len(export.recorded)


def test_one_byte_of_one_result_is_found_where_it_is() -> None:
    export = sound()
    position = next(n for n, event in enumerate(export.events) if event.type == "taskCompleted")
    spoiled = export.recorded[position].replace(b"double", b"dOuble", 1)
    found = verify(changed(export, "recorded", position, [spoiled]), AUTHORITY.anchors)
    assert not found.valid
    assert found.proven <= position < found.proven + 3  # a signature is over three events here
    assert "was changed after they were signed" in str(found.reason)


def test_one_value_for_readers_is_found_where_it_is() -> None:
    export = sound()
    lie = export.events[4].model_copy(update={"name": "another"})
    found = verify(changed(export, "events", 4, [lie]), AUTHORITY.anchors)
    assert (found.valid, found.proven) == (False, 4)
    assert "`events` doesn't say what `recorded` has" in str(found.reason)
    assert not verify(changed(export, "events", 0, []), AUTHORITY.anchors).valid
    more = export.model_copy(update={"events": [*export.events, lie]})
    assert verify(more, AUTHORITY.anchors).proven == len(export.recorded)
    assert not verify(more, AUTHORITY.anchors).valid


@settings(max_examples=300, deadline=None)
@given(member=st.sampled_from(["recorded", "signatures", "certificates"]), data=st.data())
def test_no_changed_bit_of_the_proof_is_overlooked(member: str, data: st.DataObject) -> None:
    export = sound()
    values: list[bytes] = getattr(export, member)
    position = data.draw(st.integers(0, len(values) - 1))
    at, bit = data.draw(st.integers(0, len(values[position]) - 1)), data.draw(st.integers(0, 7))
    spoiled = changed(export, member, position, [flipped(values[position], at, bit)])
    found = verify(spoiled, AUTHORITY.anchors)
    assert not found.valid
    assert found.proven < found.events


def test_a_certificate_has_no_second_spelling() -> None:
    # The last bits of a signature that are 0 can be declared not to be part of it: one that ends so is made.
    export = next(
        one
        for one in iter(lambda: signed(unsigned(), KEY, AUTHORITY.workload(KEY)), None)
        if one.certificates[0][-1] & 1 == 0
    )
    assert verify(export, AUTHORITY.anchors).valid
    (certificate,) = export.certificates
    signature = x509.load_der_x509_certificate(certificate[certificate.index(b"\x30\x82") :]).signature
    spoiled = flipped(certificate, len(certificate) - len(signature) - 1)
    assert "can't be read" in str(verify(changed(export, "certificates", 0, [spoiled]), AUTHORITY.anchors).reason)


@pytest.mark.parametrize("member", ["recorded", "signatures", "certificates"])
def test_nothing_can_be_taken_out(member: str) -> None:
    export = sound()
    for position in range(len(getattr(export, member)) - 1):
        assert not verify(changed(export, member, position, []), AUTHORITY.anchors).valid
    assert not verify(export.model_copy(update={member: []}), AUTHORITY.anchors).valid


def test_nothing_can_be_put_in() -> None:
    export = sound()
    assert not verify(changed(export, "recorded", 5, export.recorded[5:6] * 2), AUTHORITY.anchors).valid
    appended = export.model_copy(
        update={"recorded": [*export.recorded, b"\x08\x01"], "events": [*export.events, export.events[0]]}
    )
    found = verify(appended, AUTHORITY.anchors)
    assert (found.valid, found.proven) == (False, len(export.recorded))


def test_a_signature_for_events_that_another_has_signed_is_not_accepted() -> None:
    export = signed(unsigned(), KEY, AUTHORITY.workload(KEY), batch=len(unsigned().recorded) - 1)
    last = len(export.recorded) - 1
    assert export.signatures[1].startswith(wire({1: last, 2: 1}))
    overlapping = wire({1: last - 1, 2: 2}) + export.signatures[1].removeprefix(wire({1: last, 2: 1}))
    found = verify(changed(export, "signatures", 1, [overlapping]), AUTHORITY.anchors)
    assert (found.valid, found.proven) == (False, last)


def test_a_history_that_was_cut_off_has_no_end() -> None:
    export = sound()
    cut = export.model_copy(
        update={
            "recorded": export.recorded[:6],
            "events": export.events[:6],
            "signatures": export.signatures[:2],
        }
    )
    found = verify(cut, AUTHORITY.anchors)
    assert (found.valid, found.ended) == (True, False)


def test_a_history_that_nobody_signed_proves_nothing() -> None:
    found = verify(unsigned(), AUTHORITY.anchors)
    assert (found.valid, found.proven, found.reason) == (False, 0, "the export has no signatures")


def test_a_signer_of_another_root_is_not_trusted() -> None:
    found = verify(sound(), Authority("another root").anchors)
    assert (found.valid, found.proven, found.signers) == (False, 0, ())
    assert "can't be trusted" in str(found.reason)


def test_a_certificate_that_had_expired_is_not_trusted() -> None:
    export = signed(unsigned(), KEY, AUTHORITY.workload(KEY, until=BEGAN + timedelta(seconds=2)))
    found = verify(export, AUTHORITY.anchors)
    assert not found.valid
    assert 0 < found.proven < found.events


def test_a_trusted_workload_cannot_vouch_for_another() -> None:
    thief = ec.generate_private_key(ec.SECP256R1())
    forger = Authority("forger")
    forged = signed(unsigned(), thief, forger.workload(thief), AUTHORITY.workload(KEY))
    assert not verify(forged, AUTHORITY.anchors).valid


def test_another_signer_than_the_expected_is_told() -> None:
    found = verify(sound(), AUTHORITY.anchors, "spiffe://public/ns/default/others")
    assert (found.valid, found.proven) == (False, 0)
    assert found.reason == f"signed by {SIGNER}, not by spiffe://public/ns/default/others"


def test_a_certificate_that_names_no_workload_is_not_trusted() -> None:
    found = verify(signed(unsigned(), KEY, AUTHORITY.workload(KEY, identity=None)), AUTHORITY.anchors)
    assert found.reason == "its signer's certificate names no workload"


def test_a_signature_by_another_key_is_found() -> None:
    export = signed(unsigned(), ec.generate_private_key(ec.SECP256R1()), AUTHORITY.workload(KEY))
    assert verify(export, AUTHORITY.anchors).reason == "its signature isn't its signer's"


@pytest.mark.parametrize("chain", [b"", b"\x0a\x03abc", b"\x0a\x02\x30\x82", b"\xff"])
def test_a_certificate_that_is_none_is_told(chain: bytes) -> None:
    found = verify(sound().model_copy(update={"certificates": [chain]}), AUTHORITY.anchors)
    assert "can't be read" in str(found.reason)


def test_the_history_of_another_run_is_told() -> None:
    found = verify(sound().model_copy(update={"instance_id": "run-2"}), AUTHORITY.anchors)
    assert (found.valid, found.reason) == (False, "the events are of run run-1, not of run-2")
    found = verify(sound().model_copy(update={"workflow": "other"}), AUTHORITY.anchors)
    assert found.reason == "the events are no history of workflow other"


def test_what_is_kept_beside_the_history_is_proven_by_its_digest() -> None:
    export = signed(
        finished(scripted([[("double", n)] for n in range(5)]), segment_answers=4), KEY, AUTHORITY.workload(KEY)
    )
    assert verify(export, AUTHORITY.anchors).valid
    for key, value in export.payloads.items():
        for spoiled in (export.payloads | {key: flipped(value, 20)}, export.payloads.keys() - {key}):
            payloads = spoiled if isinstance(spoiled, dict) else {one: export.payloads[one] for one in spoiled}
            found = verify(export.model_copy(update={"payloads": payloads}), AUTHORITY.anchors)
            assert not found.valid
            assert "state store" in str(found.reason)


def test_anchors_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="PEM"):
        verify(sound(), b"nothing")
