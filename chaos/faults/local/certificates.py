"""The certificate that a region's API shows, which may have expired."""

from __future__ import annotations

import datetime
import os
import socket
import ssl
import time
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from chaos.faults.target import NotInjectedError, NotLiftedError, Place, Struck
from infra.manifest import Manifest

SECONDS = 30.0
POLL_SECONDS = 0.1
EXPIRED = "certificate has expired"


@dataclass(frozen=True)
class Certificates:
    """Puts a certificate that expired yesterday, of the deployment's own root, in place of a region's."""

    manifest: Manifest

    def expire(self, place: Place) -> Struck:
        """The files are changed; who serves them reads them when it starts."""
        path, kept = self._paths(place)
        if not kept.exists():
            kept.write_bytes(path.read_bytes())
        self._write(path, expired(kept.read_bytes(), self.manifest.directory / "pki"))
        return Struck(time.time())

    def seen(self, place: Place, struck: Struck) -> Struck:
        """`struck`, with what a client of the API sees: proven once that is an expired certificate."""
        deadline, told = time.monotonic() + SECONDS, ""
        while EXPIRED not in (told := self._shake(place)) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return replace(struck, evidence={"a-client-sees": told}, proven=EXPIRED in told)

    def renew(self, place: Place) -> bool:
        """Whether the certificate had to be put back: not where somebody has made a new one, for a new key."""
        path, kept = self._paths(place)
        if not kept.exists():
            return False
        shown = x509.load_pem_x509_certificate(path.read_bytes())
        replaced = shown.not_valid_after_utc > datetime.datetime.now(datetime.UTC)
        if not replaced:
            self._write(path, kept.read_bytes())
        kept.unlink()
        return not replaced

    def demand_valid(self, place: Place) -> None:
        """Return once the API shows a certificate that clients accept. Raises NotLiftedError."""
        deadline, told = time.monotonic() + SECONDS, ""
        while (told := self._shake(place)) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if told:
            raise NotLiftedError(f"the API of {place} can't be trusted still: {told}")

    def _shake(self, place: Place) -> str:
        """What is wrong with the API's certificate, or with its connection; nothing where all is well."""
        at = urlsplit(self.manifest.regions[place].api)
        context = ssl.create_default_context(cafile=str(self.manifest.ca))
        try:
            with (
                socket.create_connection((at.hostname or "", at.port or 0), timeout=2) as plain,
                context.wrap_socket(plain, server_hostname=at.hostname),
            ):
                return ""
        except OSError as error:
            return str(error)

    def _paths(self, place: Place) -> tuple[Path, Path]:
        if place not in self.manifest.regions:
            raise NotInjectedError("the witness has no API")
        path = self.manifest.regions[place].directory / "tls" / "node.crt"
        return path, path.with_suffix(".kept")

    def _write(self, path: Path, content: bytes) -> None:
        """With the owner that it has: the services read it."""
        owner = path.stat()
        beside = path.with_suffix(".new")
        beside.write_bytes(content)
        beside.chmod(owner.st_mode & 0o777)
        if os.geteuid() == 0:
            os.chown(beside, owner.st_uid, owner.st_gid)
        beside.replace(path)


def expired(pem: bytes, pki: Path) -> bytes:
    """The same certificate, for the same key, from the root in `pki`; but its time ended yesterday."""
    old = x509.load_pem_x509_certificate(pem)
    root = x509.load_pem_x509_certificate((pki / "root.crt").read_bytes())
    key = serialization.load_pem_private_key((pki / "root.key").read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise NotInjectedError(f"{pki / 'root.key'} is not the key of a root that this bench can use")
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(root.subject)
        .public_key(old.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now - datetime.timedelta(days=1))
    )
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
