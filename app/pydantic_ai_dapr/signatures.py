"""Verifies the chain of signatures over a history: who recorded it, and that nothing was changed since.

Dapr signs what each work item adds. A signature covers a digest of those events and the signature before it, so that
no event can be changed, taken out or put in between. Each is checked with the signer's certificate, which must lead to
a trust anchor and be valid at the time of the last event that it covers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.x509 import verification
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from pydantic_ai_dapr.export import Export
from pydantic_ai_dapr.payloads import PayloadLostError
from pydantic_ai_dapr.recorded import history_event, parse, time_of


def _messages() -> dict[str, Any]:
    """Two messages of Dapr's that its SDK lacks, from `backend_service.proto`."""
    number, bytes_ = descriptor_pb2.FieldDescriptorProto.TYPE_UINT64, descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
    described = {
        "HistorySignature": {
            "startEventIndex": number,
            "eventCount": number,
            "previousSignatureDigest": bytes_,
            "eventsDigest": bytes_,
            "certificateIndex": number,
            "signature": bytes_,
        },
        "SigningCertificate": {"certificate": bytes_},
    }
    file = descriptor_pb2.FileDescriptorProto(
        name="pydantic_ai_dapr.proto", package="pydantic_ai_dapr", syntax="proto3"
    )
    for name, fields in described.items():
        message = file.message_type.add(name=name)
        for position, (field, kind) in enumerate(fields.items(), 1):
            message.field.add(name=field, number=position, type=kind, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClassesForFiles([file.name], pool)


_MESSAGES = _messages()


def _message(name: str, raw: bytes) -> Any:
    try:
        return _MESSAGES[f"pydantic_ai_dapr.{name}"].FromString(raw)
    except DecodeError as error:
        raise _BadError(f"its {name} can't be read: {error}") from error


@dataclass(frozen=True)
class Verification:
    """Whether an export is what its signers recorded, and all of it up to its last event.

    `proven` events, from the first, are; where that isn't all, `reason` says what is wrong with the next. `signers`
    are SPIFFE ids. Whoever cuts off the end of a signed history leaves one that is valid: look whether it `ended`.
    """

    events: int
    proven: int
    reason: str | None
    signers: tuple[str, ...]
    ended: bool

    @property
    def valid(self) -> bool:
        """Whether every event is proven."""
        return self.reason is None


class _BadError(Exception):
    """What is wrong with the next event."""


def verify(export: Export, trust_anchors: bytes, signer: str | None = None) -> Verification:
    """Check an export against trust anchors (PEM), which must not come from whoever gave the export.

    With `signer` (`spiffe://<trust domain>/ns/<namespace>/<app id>`) every signature must be that identity's.
    Raises ValueError where the anchors are no certificates.
    """
    store = verification.Store(x509.load_pem_x509_certificates(trust_anchors))
    proven, signers, reason = 0, dict[str, None](), None
    try:
        for end, identity in _signed(export, store, signer):
            proven, signers[identity] = end, None
        if not export.signatures:
            raise _BadError("the export has no signatures")
        if proven < len(export.recorded):
            raise _BadError("nobody signed it")
    except _BadError as error:
        reason = str(error)
    misread = _misread(export, proven)
    if misread is not None:
        proven, reason = misread, "`events` doesn't say what `recorded` has"
    reason = reason or _other_run(export) or _lost(export)
    ended = any(event.type == "executionCompleted" for event in export.events[-1:])
    return Verification(len(export.recorded), proven, reason, tuple(signers), ended)


def _signed(export: Export, store: verification.Store, signer: str | None) -> Iterator[tuple[int, str]]:
    """After each signature that holds: how many events are proven, and by whom."""
    proven, previous = 0, b""
    for raw in export.signatures:
        signature = _message("HistorySignature", raw)
        end = signature.startEventIndex + signature.eventCount
        if signature.previousSignatureDigest != previous:
            raise _BadError("the signature before it was changed or taken out")
        if signature.startEventIndex != proven or not proven < end <= len(export.recorded):
            raise _BadError(f"events are missing or too many: the next signature is for {proven} to {end - 1}")
        events = export.recorded[proven:end]
        if signature.eventsDigest != _digest(events):
            raise _BadError(f"one of the events {proven} to {end - 1} was changed after they were signed")
        index: int = signature.certificateIndex
        if index >= len(export.certificates):
            raise _BadError("the certificate of its signer is missing")
        chain = _chain(_message("SigningCertificate", export.certificates[index]).certificate)
        identity = _check_trust(chain, store, time_of(parse(events[-1]).timestamp))
        _check_signature(chain[0], signature.signature, hashlib.sha256(previous + signature.eventsDigest).digest())
        if signer not in (None, identity):
            raise _BadError(f"signed by {identity}, not by {signer}")
        proven, previous = end, hashlib.sha256(raw).digest()
        yield proven, identity


def _digest(events: Sequence[bytes]) -> bytes:
    return hashlib.sha256(b"".join(len(event).to_bytes(8, "big") + event for event in events)).digest()


def _check_signature(certificate: x509.Certificate, signature: bytes, digest: bytes) -> None:
    key = certificate.public_key()
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, digest)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, digest, padding.PKCS1v15(), Prehashed(hashes.SHA256()))
        else:
            raise _BadError(f"its signer's key is of a kind that nobody signs with: {type(key).__name__}")
    except InvalidSignature as error:
        raise _BadError("its signature isn't its signer's") from error


def _check_trust(chain: list[x509.Certificate], store: verification.Store, at: datetime) -> str:
    """The signer's SPIFFE id."""
    policy = verification.PolicyBuilder().store(store).time(at)
    try:
        verified = policy.build_client_verifier().verify(chain[0], chain[1:])
    except Exception as error:  # a certificate that somebody made up can fail in any way
        raise _BadError(f"its signer's certificate can't be trusted: {error}") from error
    identities = [name.value for name in verified.subjects or () if isinstance(name, x509.UniformResourceIdentifier)]
    if len(identities) != 1:
        raise _BadError("its signer's certificate names no workload")
    return identities[0]


def _chain(der: bytes) -> list[x509.Certificate]:
    """Certificates that stand one after the other, the leaf first."""
    found: list[x509.Certificate] = []
    try:
        while der:
            more = der[1] & 0x7F if der[1] & 0x80 else 0
            length = 2 + more + (int.from_bytes(der[2 : 2 + more], "big") if more else der[1])
            certificate = x509.load_der_x509_certificate(der[:length])
            if der[length - len(certificate.signature) - 1]:  # how many bits of the last byte are said not to be its
                raise ValueError
            found.append(certificate)
            der = der[length:]
    except Exception:  # as above
        found = []
    if not found:
        raise _BadError("the certificate of its signer can't be read")
    return found


def _misread(export: Export, proven: int) -> int | None:
    """The first of the proven events whose readable form isn't what was recorded."""
    for position, recorded in enumerate(export.recorded[:proven]):
        if export.events[position : position + 1] != [history_event(position, parse(recorded))]:
            return position
    return proven if len(export.events) > len(export.recorded) else None


def _lost(export: Export) -> str | None:
    """Why what is kept beside the history isn't what the proven events refer to, by digest."""
    try:
        export.history()
    except PayloadLostError as error:
        return str(error)
    return None


def _other_run(export: Export) -> str | None:
    """Why the events are another run's than the export says."""
    events = [parse(one) for one in export.recorded]
    started = next((event.executionStarted for event in events if event.HasField("executionStarted")), None)
    rerun = any(event.taskScheduled.HasField("rerunParentInstanceInfo") for event in events)
    if started is None or started.name != export.workflow:
        return f"the events are no history of workflow {export.workflow}"
    recorded_id = started.workflowInstance.instanceId
    if recorded_id != export.instance_id and not rerun:
        return f"the events are of run {recorded_id}, not of {export.instance_id}"
    return None
