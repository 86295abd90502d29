"""One root that every part trusts; each key is readable only by whom it speaks for.

The root's key belongs to whoever runs `up` and never to a service. Each region's Dapr issuer is an
intermediate under the root, so that histories signed in one region verify in the other.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from infra.local.files import PUBLIC, write
from infra.toolchain.account import Account

__all__ = ["TRUST_DOMAIN", "Authority", "KeyPair", "peer_host"]

TRUST_DOMAIN = "holdfast.local"
_ROOT_DAYS, _LEAF_DAYS, _RENEW_DAYS = 3650, 730, 30
_SKEW = datetime.timedelta(minutes=5)


def peer_host(site: str) -> str:
    """The name under which a site's lease store is known to the others; it never resolves."""
    return f"etcd-{site}.{TRUST_DOMAIN}"


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


class Authority:
    """The root certificate of one deployment, in `directory`; made if it is not there."""

    def __init__(self, directory: Path) -> None:
        self.pair = KeyPair(directory / "root.crt", directory / "root.key")
        if not self.pair.certificate.exists() or not self.pair.key.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            name = _name("Holdfast root")
            builder = _builder(name, name, key, _ROOT_DAYS)
            builder = _as_authority(builder, depth=1)
            write(self.pair.key, _pem_key(key))
            write(self.pair.certificate, _pem(builder.sign(key, hashes.SHA256())), mode=PUBLIC)
        self._certificate = x509.load_pem_x509_certificate(self.pair.certificate.read_bytes())
        loaded = serialization.load_pem_private_key(self.pair.key.read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        self._key = loaded

    @property
    def root(self) -> bytes:
        """The root certificate as PEM."""
        return _pem(self._certificate)

    def leaf(self, pair: KeyPair, name: str, hosts: Sequence[str] = (), owner: Account | None = None) -> bool:
        """Whether a certificate for server and client use had to be made, for loopback and `hosts`."""
        if self._current(pair):
            return False
        key = ec.generate_private_key(ec.SECP256R1())
        addresses = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        names = [x509.DNSName(host) for host in ("localhost", *hosts)]
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
        return self._issue(builder, pair, key, owner)

    def issuer(self, pair: KeyPair, name: str, owner: Account | None = None) -> bool:
        """Whether an intermediate that signs workload certificates had to be made."""
        if self._current(pair):
            return False
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(name), self._certificate.subject, key, _ROOT_DAYS - 1)
        return self._issue(_as_authority(builder, depth=0), pair, key, owner)

    def _issue(
        self,
        builder: x509.CertificateBuilder,
        pair: KeyPair,
        key: ec.EllipticCurvePrivateKey,
        owner: Account | None,
    ) -> bool:
        by = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = builder.add_extension(by, critical=False).sign(self._key, hashes.SHA256())
        # The certificate last: while it is missing, the pair is made anew.
        pair.certificate.unlink(missing_ok=True)
        write(pair.key, _pem_key(key), owner)
        write(pair.certificate, _pem(certificate), owner, PUBLIC)
        return True

    def _current(self, pair: KeyPair) -> bool:
        """Whether the pair is there, is this root's and is not about to expire."""
        if not pair.certificate.exists() or not pair.key.exists():
            return False
        certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
        try:
            certificate.verify_directly_issued_by(self._certificate)
        except Exception:
            return False
        return certificate.not_valid_after_utc - _now() > datetime.timedelta(days=_RENEW_DAYS)


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
