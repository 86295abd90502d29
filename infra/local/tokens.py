"""Sentry gives an identity only to a process that holds a token for exactly that identity.

Each token is a JWT, signed by a key that is thrown away with the deployment, for one SPIFFE id.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from joserfc import jwt
from joserfc.jwk import ECKey

from infra.local.files import write
from infra.local.identity import TRUST_DOMAIN

__all__ = ["CONTROL_NAMESPACE", "TokenIssuer"]

CONTROL_NAMESPACE = "dapr-system"
_YEARS = 10 * 365 * 24 * 3600


class TokenIssuer:
    """Signs tokens with the deployment's key in `directory`; made if it is not there."""

    def __init__(self, directory: Path) -> None:
        path = directory / "token-signing.json"
        if not path.exists():
            key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256", "kid": "holdfast"})
            write(path, json.dumps(key.as_dict(private=True)))
        self._key = ECKey.import_key(json.loads(path.read_bytes()))

    def key_set(self) -> str:
        """The JWKS by which Sentry verifies tokens; it holds no private key."""
        return json.dumps({"keys": [self._key.as_dict(private=False)]})

    def token(self, trust_domain: str, namespace: str, app_id: str) -> str:
        """A token for one identity."""
        now = int(time.time())
        claims = {
            "iss": TRUST_DOMAIN,
            "aud": [f"spiffe://{TRUST_DOMAIN}/ns/{CONTROL_NAMESPACE}/dapr-sentry"],
            "sub": f"spiffe://{trust_domain}/ns/{namespace}/{app_id}",
            "iat": now,
            "exp": now + _YEARS,
        }
        return jwt.encode({"alg": "ES256", "kid": "holdfast"}, claims, self._key)
