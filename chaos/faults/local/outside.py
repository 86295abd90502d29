"""The simulated services outside both regions, through the doors that they have for the bench."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

import httpx
from pydantic import JsonValue

from chaos.faults.target import NotInjectedError, Service
from infra.manifest import Manifest

SECONDS = 5.0


@dataclass(frozen=True)
class Outside:
    """Asks with a token of its own, which no worker has."""

    manifest: Manifest

    def control(self, service: Service, method: str, path: str, body: JsonValue = None) -> JsonValue:
        """The service's answer. Raises NotInjectedError."""
        url = self.manifest.payments.provider if service == "provider" else self.manifest.payments.url
        if url is None:
            raise NotInjectedError(f"the deployment has no {service}")
        token = self.manifest.control_token_file.read_text(encoding="utf-8").strip()
        trust = ssl.create_default_context(cafile=str(self.manifest.ca))
        try:
            with httpx.Client(verify=trust, timeout=SECONDS, trust_env=False) as client:
                headers = {"Authorization": f"Bearer {token}"}
                response = client.request(method, f"{url}{path}", json=body, headers=headers)
                response.raise_for_status()
                return response.json() if response.content else None
        except (httpx.HTTPError, ValueError) as error:
            raise NotInjectedError(f"{service} was not told {method} {path}: {error}") from error
