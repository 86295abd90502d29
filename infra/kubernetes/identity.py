"""Who is who: one root, what it signs for each cluster, and every token and password. Secrets of Pulumi's alone.

Both regions trust the root; each region's Dapr issuer is an intermediate under it, so that histories signed in one
region verify in the other. Pulumi's state keeps keys, tokens and passwords encrypted, and they are made only once.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from infra.certificates import Pem, Root
from infra.database import scram
from infra.topology import APP_SECRETS, DATABASE_SECRETS

__all__ = ["CONTROL_TRUST_DOMAIN", "Certificate", "CertificateProvider", "Identity", "IdentityProvider"]

CONTROL_TRUST_DOMAIN = "holdfast.local"


class IdentityProvider(ResourceProvider):
    """Makes the root and everything that parts prove themselves by. Pickled into the state by reference."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        root = Root.new()
        passwords = {name: secrets.token_urlsafe(32) for name in DATABASE_SECRETS}
        made = {
            "root_certificate": root.certificate.decode(),
            "root_key": root.key.decode(),
            "tokens": {name: secrets.token_urlsafe(32) for name in (*APP_SECRETS, "dapr-api-token")},
            "passwords": passwords,
            # The verifier is salted, so it is made once.
            "app_verifier": scram(passwords["app"]),
        }
        return CreateResult("identity", {**props, **made})

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        return DiffResult(changes=False)


class CertificateProvider(ResourceProvider):
    """Makes one certificate under the root; anew where it is for other hosts, or about to expire."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult(props["common_name"], _signed(props))

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        changed = any(_olds.get(key) != _news.get(key) for key in ("common_name", "hosts", "authority"))
        return DiffResult(changes=changed or not _root(_news).still_vouches_for(_olds["certificate"].encode()))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        return UpdateResult(_signed(_news))


def _root(props: Mapping[str, Any]) -> Root:
    return Root(Pem(props["root_certificate"].encode(), props["root_key"].encode()))


def _signed(props: dict[str, Any]) -> dict[str, Any]:
    root, name = _root(props), props["common_name"]
    made = root.issuer(name) if props["authority"] else root.leaf(name, props["hosts"])
    return {**props, "certificate": made.certificate.decode(), "key": made.key.decode()}


class Identity(Resource, module="holdfast", name="Identity"):
    """The deployment's root, tokens and passwords."""

    root_certificate: pulumi.Output[str]
    root_key: pulumi.Output[str]
    tokens: pulumi.Output[Mapping[str, str]]
    passwords: pulumi.Output[Mapping[str, str]]
    app_verifier: pulumi.Output[str]

    def token(self, name: str) -> pulumi.Output[str]:
        return self.tokens.apply(lambda tokens: tokens[name])

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        hidden = ["root_key", "tokens", "passwords", "app_verifier"]
        outputs = {"root_certificate": None, **dict.fromkeys(hidden)}
        kept = pulumi.ResourceOptions(additional_secret_outputs=hidden)
        super().__init__(IdentityProvider(), name, outputs, pulumi.ResourceOptions.merge(opts, kept))
        for output in hidden:
            setattr(self, output, pulumi.Output.secret(getattr(self, output)))


class Certificate(Resource, module="holdfast", name="Certificate"):
    """A certificate under the root: for `hosts`, or an authority that signs workload certificates."""

    certificate: pulumi.Output[str]
    key: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        identity: Identity,
        hosts: Sequence[str] = (),
        *,
        authority: bool = False,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        properties: dict[str, Any] = {
            "root_certificate": identity.root_certificate,
            "root_key": identity.root_key,
            "common_name": name,
            "hosts": list(hosts),
            "authority": authority,
            "certificate": None,
            "key": None,
        }
        hidden = pulumi.ResourceOptions(additional_secret_outputs=["root_key", "key"])
        super().__init__(CertificateProvider(), name, properties, pulumi.ResourceOptions.merge(opts, hidden))
        self.key = pulumi.Output.secret(self.key)
