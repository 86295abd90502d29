"""Signs histories as Dapr does, under a root made here."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pydantic_ai_dapr import Export

from tests.support.workflow_engine import BEGAN

SIGNER = "spiffe://public/ns/default/agents"
Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


class Authority:
    """A root, and the workloads that it vouches for."""

    def __init__(self, name: str = "root") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = self._builder(self._name, self._key, BEGAN - timedelta(days=1), BEGAN + timedelta(days=999))
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        made = made.add_extension(_usage(True), critical=True)
        self.certificate = made.sign(self._key, hashes.SHA256())

    @property
    def anchors(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def workload(
        self, key: Key, identity: str | None = SIGNER, until: datetime = BEGAN + timedelta(days=1)
    ) -> x509.Certificate:
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(identity)] if identity else [x509.DNSName("x")]
        made = self._builder(x509.Name([]), key, BEGAN - timedelta(minutes=5), until)
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=True)
        made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        made = made.add_extension(_usage(False), critical=True)
        made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        return made.sign(self._key, hashes.SHA256())

    def _builder(self, subject: x509.Name, key: Key, since: datetime, until: datetime) -> x509.CertificateBuilder:
        by = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(since)
            .not_valid_after(until)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(by, critical=False)
        )


def signed(export: Export, key: Key, *certificates: x509.Certificate, batch: int = 3) -> Export:
    """The export with a signature over each `batch` events, by the first certificate's key."""
    signatures: list[bytes] = []
    previous = b""
    for start in range(0, len(export.recorded), batch):
        events = export.recorded[start : start + batch]
        digest = hashlib.sha256(b"".join(len(one).to_bytes(8, "big") + one for one in events)).digest()
        signature = _sign(key, hashlib.sha256(previous + digest).digest())
        signatures.append(wire({1: start, 2: len(events), 3: previous, 4: digest, 6: signature}))
        previous = hashlib.sha256(signatures[-1]).digest()
    chain = b"".join(one.public_bytes(Encoding.DER) for one in certificates)
    return export.model_copy(update={"signatures": signatures, "certificates": [wire({1: chain})]})


def _sign(key: Key, digest: bytes) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(digest)
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(digest, padding.PKCS1v15(), Prehashed(hashes.SHA256()))
    return key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))


def wire(fields: dict[int, int | bytes]) -> bytes:
    """A protobuf message; what is empty is left out."""
    made = b""
    for number, value in fields.items():
        if isinstance(value, int) and value:
            made += _varint(number << 3) + _varint(value)
        elif isinstance(value, bytes) and value:
            made += _varint(number << 3 | 2) + _varint(len(value)) + value
    return made


def _varint(value: int) -> bytes:
    made = b""
    while value > 0x7F:
        made += bytes([value & 0x7F | 0x80])
        value >>= 7
    return made + bytes([value])


def _usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
