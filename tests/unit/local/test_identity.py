"""One root; keys that only their owner can read; tokens for exactly one identity."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from joserfc import jwt
from joserfc.errors import BadSignatureError
from joserfc.jwk import KeySet

from infra import certificates
from infra.local.identity import Authority, KeyPair
from infra.local.tokens import TokenIssuer

pytestmark = pytest.mark.unit


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def pair(directory: Path, name: str) -> KeyPair:
    return KeyPair(directory / f"{name}.crt", directory / f"{name}.key")


def test_a_leaf_serves_and_calls_on_loopback_and_under_its_names(tmp_path: Path) -> None:
    leaf = pair(tmp_path, "leaf")
    assert Authority(tmp_path).leaf(leaf, "region-a", ("etcd-a.holdfast.local",))
    certificate = read(leaf.certificate)
    certificate.verify_directly_issued_by(read(tmp_path / "root.crt"))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "etcd-a.holdfast.local"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH} == set(usage)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_every_key_is_its_owner_s_alone(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.leaf(pair(tmp_path, "leaf"), "leaf")
    authority.issuer(pair(tmp_path, "issuer"), "issuer")
    TokenIssuer(tmp_path)
    for name in ("root.key", "leaf.key", "issuer.key", "token-signing.json"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_what_is_there_is_kept_and_what_another_root_signed_is_replaced(tmp_path: Path) -> None:
    leaf = pair(tmp_path, "leaf")
    assert Authority(tmp_path).leaf(leaf, "one")
    assert not Authority(tmp_path).leaf(leaf, "one")
    (tmp_path / "root.key").unlink()
    assert Authority(tmp_path).leaf(leaf, "one")


def test_a_certificate_that_is_about_to_expire_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaf = pair(tmp_path, "leaf")
    Authority(tmp_path).leaf(leaf, "one")
    almost = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=701)
    monkeypatch.setattr(certificates, "_now", lambda: almost)
    assert Authority(tmp_path).leaf(leaf, "one")


def test_a_region_s_issuer_may_sign_workloads_and_no_other_issuer(tmp_path: Path) -> None:
    issuer = pair(tmp_path, "issuer")
    Authority(tmp_path).issuer(issuer, "region-a issuer")
    constraints = read(issuer.certificate).extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    assert not Authority(tmp_path).issuer(issuer, "region-a issuer")


def test_a_token_names_one_identity_and_only_the_deployment_s_key_signs_it(tmp_path: Path) -> None:
    issuer = TokenIssuer(tmp_path)
    keys = issuer.key_set()
    assert '"d"' not in keys
    token = issuer.token("public", "default", "refund-desk")
    claims = jwt.decode(token, KeySet.import_key_set(json.loads(keys))).claims
    assert claims["sub"] == "spiffe://public/ns/default/refund-desk"
    assert claims["aud"] == ["spiffe://holdfast.local/ns/dapr-system/dapr-sentry"]
    assert TokenIssuer(tmp_path).key_set() == keys
    (tmp_path / "other").mkdir()
    other = TokenIssuer(tmp_path / "other").key_set()
    with pytest.raises(BadSignatureError):
        jwt.decode(token, KeySet.import_key_set(json.loads(other)))
