"""A certificate that a fault let expire is put back, but not in place of one that somebody has made since."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.faults.local.certificates import Certificates
from infra.local.identity import Authority, KeyPair
from tests.support.deployments import manifest

pytestmark = pytest.mark.unit


@pytest.fixture
def region(tmp_path: Path) -> KeyPair:
    tls = tmp_path / "region-a" / "tls"
    tls.mkdir(parents=True)
    (tmp_path / "pki").mkdir()
    pair = KeyPair(tls / "node.crt", tls / "node.key")
    Authority(tmp_path / "pki").leaf(pair, "region-a")
    return pair


def test_the_certificate_of_before_is_put_back_once(region: KeyPair, tmp_path: Path) -> None:
    certificates, before = Certificates(manifest(tmp_path)), region.certificate.read_bytes()
    certificates.expire("a")
    assert region.certificate.read_bytes() != before
    assert certificates.renew("a")
    assert region.certificate.read_bytes() == before
    assert not certificates.renew("a")


def test_a_certificate_that_was_made_since_stays(region: KeyPair, tmp_path: Path) -> None:
    certificates = Certificates(manifest(tmp_path))
    certificates.expire("a")
    assert Authority(tmp_path / "pki").leaf(region, "region-a")
    made = region.certificate.read_bytes()
    assert not certificates.renew("a")
    assert region.certificate.read_bytes() == made
    assert not region.certificate.with_suffix(".kept").exists()
