"""A process reads one JSON file, and refuses what it doesn't understand by name before it starts."""

from __future__ import annotations

import argparse
import ssl
import sys
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

CANNOT_START = 2


class ConfigurationFile(BaseModel):
    """Base of every configuration file: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Tls(ConfigurationFile):
    """A process's certificate and key, and the root that it trusts. PEM files."""

    ca: Path
    cert: Path
    key: Path

    def client_context(self) -> ssl.SSLContext:
        """Verifies servers against the root, and presents the certificate to those that ask."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(self.cert, self.key)
        return context


def _host_and_port(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{value!r} is not host:port")
    return value


Listen = Annotated[str, AfterValidator(_host_and_port)]
"""An address to listen on, as `host:port`."""

Configuration = TypeVar("Configuration", bound=BaseModel)


def configuration_of(model: type[Configuration], program: str, arguments: list[str]) -> Configuration:
    """The configuration that `--config FILE` names.

    Exits with status 2 and a message on standard error that names each wrong key where the file can't be read.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {program}")
    parser.add_argument("--config", type=Path, required=True, help="the JSON file with this process's configuration")
    path: Path = parser.parse_args(arguments).config
    try:
        return model.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems = [f"can't be read: {error.strerror}"]
    except UnicodeDecodeError as error:
        problems = [f"is not UTF-8: {error.reason} at byte {error.start}"]
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()]
    for problem in problems:
        print(f"{program}: {path}: {problem}", file=sys.stderr)
    raise SystemExit(CANNOT_START)


def read_secret(path: Path) -> str:
    """The secret in a file, without the line's end. Raises ValueError where the file is empty."""
    secret = path.read_text(encoding="utf-8").strip()
    if not secret:
        raise ValueError(f"{path} is empty; it must hold a secret")
    return secret
