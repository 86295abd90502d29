"""Certificates in memory: one root that every part trusts, and what it signs.

Who keeps them where, and who may read the keys, is each target's own affair.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["Pem", "Root"]

_ROOT_DAYS, _LEAF_DAYS, _RENEW_DAYS = 3650, 730, 30
_SKEW = datetime.timedelta(minutes=5)


@dataclass(frozen=True)
class Pem:
    """A certificate and its key."""

    certificate: bytes
    key: bytes


class Root:
    """A root certificate with its key, and what it has signed."""

    def __init__(self, pem: Pem) -> None:
        self._certificate = x509.load_pem_x509_certificate(pem.certificate)
        loaded = serialization.load_pem_private_key(pem.key, None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        self._key = loaded

    @staticmethod
    def new() -> Pem:
        """A root that nobody knows yet."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("Holdfast root")
        builder = _as_authority(_builder(name, name, key, _ROOT_DAYS), depth=1)
        return Pem(_pem(builder.sign(key, hashes.SHA256())), _pem_key(key))

    @property
    def certificate(self) -> bytes:
        return _pem(self._certificate)

    def leaf(self, name: str, hosts: Sequence[str] = ()) -> Pem:
        """A certificate for server and client use, for loopback and `hosts`: names or addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        addresses = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        names = [x509.DNSName("localhost")]
        for host in dict.fromkeys(hosts):
            try:
                addresses.append(x509.IPAddress(ipaddress.ip_address(host)))
            except ValueError:
                names.append(x509.DNSName(host))
        builder = (
            _builder(_name(name), self._certificate.subject, key, _LEAF_DAYS)
            .add_extension(x509.SubjectAlternativeName([*addresses, *names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
        )
        return self._sign(builder, key)

    def issuer(self, name: str) -> Pem:
        """An intermediate that signs workload certificates."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(name), self._certificate.subject, key, _ROOT_DAYS - 1)
        return self._sign(_as_authority(builder, depth=0), key)

    def still_vouches_for(self, certificate: bytes) -> bool:
        """Whether the certificate is this root's and is not about to expire."""
        loaded = x509.load_pem_x509_certificate(certificate)
        try:
            loaded.verify_directly_issued_by(self._certificate)
        except Exception:
            return False
        return loaded.not_valid_after_utc - _now() > datetime.timedelta(days=_RENEW_DAYS)

    def _sign(self, builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> Pem:
        by = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = builder.add_extension(by, critical=False).sign(self._key, hashes.SHA256())
        return Pem(_pem(certificate), _pem_key(key))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - _SKEW)
        .not_valid_after(_now() + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _as_authority(builder: x509.CertificateBuilder, depth: int) -> x509.CertificateBuilder:
    return builder.add_extension(x509.BasicConstraints(ca=True, path_length=depth), critical=True).add_extension(
        _usage(signs_certificates=True), critical=True
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Holdfast"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
