"""The deployment's own ways in: HTTPS with the token and the client certificate that its manifest names."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, cast

import httpx

from infra.manifest import Manifest

__all__ = ["Doors", "Unanswered"]


class Unanswered(RuntimeError):
    """A part did not give a usable answer; the message says what it did instead."""


class Doors:
    """Asks the parts of one deployment; every question has a deadline in seconds."""

    def __init__(self, manifest: Manifest, timeout: float = 2.0) -> None:
        self.manifest = manifest
        context = ssl.create_default_context(cafile=str(manifest.ca))
        context.load_cert_chain(manifest.client_cert, manifest.client_key)
        token = manifest.api_token_file.read_text(encoding="utf-8").strip()
        # Nothing of a deployment is ever behind a proxy that the environment names.
        self._trusted = httpx.Client(
            verify=context, timeout=timeout, trust_env=False, headers={"authorization": f"Bearer {token}"}
        )
        self._certified = httpx.Client(verify=context, timeout=timeout, trust_env=False)
        self._plain = httpx.Client(timeout=timeout, trust_env=False)

    def close(self) -> None:
        for client in (self._trusted, self._certified, self._plain):
            client.close()

    def __enter__(self) -> Doors:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def api_role(self, region: str) -> Mapping[str, Any]:
        """What the region's API says of the region."""
        return _answer(self._trusted, f"{self.manifest.regions[region].api}/v1/role")

    def agent_status(self, region: str) -> Mapping[str, Any]:
        """What the region's agent says on `/status`."""
        return _answer(self._trusted, f"{self.manifest.regions[region].agent}/status")

    def patroni(self, region: str) -> Mapping[str, Any]:
        """What the region's Patroni says of its own node."""
        # It answers 503 for a node that does not run, and says so in the same words.
        return _answer(self._certified, f"{self.manifest.regions[region].patroni}/patroni", also=(503,))

    def cluster(self, region: str) -> Mapping[str, Any]:
        """What the region's Patroni says of every node."""
        return _answer(self._certified, f"{self.manifest.regions[region].patroni}/cluster")

    def switch_over(self, region: str, leader: str, candidate: str, timeout: float) -> str:
        """Asks the region's Patroni to hand the lease on; answers with what it says when it is done."""
        return self._move(region, "switchover", {"leader": leader, "candidate": candidate}, timeout)

    def fail_over(self, region: str, candidate: str, timeout: float) -> str:
        """Asks the region's Patroni to promote the candidate, whatever the leader is; as `switch_over`."""
        return self._move(region, "failover", {"candidate": candidate}, timeout)

    def _move(self, region: str, how: str, body: Mapping[str, str], timeout: float) -> str:
        url = f"{self.manifest.regions[region].patroni}/{how}"
        try:
            response = self._certified.post(url, json=body, timeout=timeout)
        except httpx.HTTPError as error:
            raise Unanswered(_reason(error)) from error
        if response.status_code != httpx.codes.OK:
            raise Unanswered(f"refused ({response.status_code}): {response.text.strip()}")
        return response.text.strip()

    def post(self, url: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a part answers that asks for the certificate, such as the lease store."""
        try:
            response = self._certified.post(url, json=body)
            response.raise_for_status()
            return cast("Mapping[str, Any]", response.json())
        except (httpx.HTTPError, ValueError) as error:
            raise Unanswered(_reason(error)) from error

    def proxies(self) -> Mapping[str, Any]:
        """Every link's proxy with its toxics."""
        return _answer(self._plain, f"{self.manifest.wan.toxiproxy}/proxies")


def _answer(client: httpx.Client, url: str, also: tuple[int, ...] = ()) -> Mapping[str, Any]:
    try:
        response = client.get(url)
        if response.status_code not in (httpx.codes.OK, *also):
            raise Unanswered(f"answered {response.status_code}")
        body = response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise Unanswered(_reason(error)) from error
    if not isinstance(body, dict):
        raise Unanswered("answered with something that is not an object")
    return cast("Mapping[str, Any]", body)


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    if isinstance(error, httpx.ConnectError) and "refused" in str(error):
        return "no answer: nothing listens"
    return f"no answer: {error or type(error).__name__}"
