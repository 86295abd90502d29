"""A deployment's manifest: where each part answers, where its files are; of secrets only their paths.

Written by the target when a part converges; read by whoever works with a deployment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydantic

from infra.state import MANIFEST

__all__ = ["Link", "Manifest", "NoManifest", "Payments", "Region", "Wan", "Witness"]


class NoManifest(LookupError):
    """There is no deployment in the directory, or its manifest cannot be read."""


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")

    site: str
    directory: Path


class Region(_Part):
    """One region's addresses and files."""

    api: str
    agent: str
    patroni: str
    postgres_port: int
    etcd: str
    supervisor_socket: Path
    role_file: Path
    events_file: Path
    attempts_dir: Path
    workers: list[str]
    sidecars: list[str]


class Witness(_Part):
    """The witness's addresses; `prometheus` where it is enabled."""

    observer: str
    etcd: str
    prometheus: str | None = None


class Payments(_Part):
    """The world outside both regions. `provider` is the simulated model provider, where there is one."""

    url: str
    provider: str | None = None


class Link(pydantic.BaseModel):
    """One line from the region that dials to the one that answers."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")

    name: str
    source: str
    target: str
    line: str
    listen: str
    upstream: str


class Wan(_Part):
    """The links, and the proxy that carries them."""

    toxiproxy: str
    links: list[Link]


class Manifest(pydantic.BaseModel):
    """Everything that one needs to know to work with a deployment."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")

    version: int
    name: str
    directory: Path
    ca: Path
    api_token_file: Path
    payments_token_file: Path
    control_token_file: Path
    signer: str
    client_cert: Path
    client_key: Path
    regions: dict[str, Region]
    witness: Witness
    payments: Payments
    wan: Wan
    settings: dict[str, Any]

    @classmethod
    def load(cls, directory: Path) -> Manifest:
        """The manifest of the deployment in `directory`, or `NoManifest`."""
        path = directory / MANIFEST
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise NoManifest(f"nothing is deployed in {directory}: start with `holdfast up`") from None
        except (OSError, pydantic.ValidationError) as error:
            raise NoManifest(f"{path} cannot be read ({error}): `holdfast up` writes it anew") from error
