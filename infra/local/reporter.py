"""What a resource provider says while it works reaches the person who runs Pulumi.

A line appears at its own resource. Pulumi gives a plugin the engine's address as its first argument, and no better way to speak.
"""

from __future__ import annotations

import functools
import sys

import grpc
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

__all__ = ["Reporter"]

_SECONDS = 2.0


class Reporter:
    """Says what happens to one resource; never fails, since a lost line must not fail a deployment."""

    def __init__(self, urn: str | None) -> None:
        self.urn = urn or ""

    def say(self, message: str) -> None:
        """One line of progress. Outside a plugin it goes to standard error."""
        address = _engine_address(tuple(sys.argv))
        if address is None:
            print(message, file=sys.stderr)
            return
        request = engine_pb2.LogRequest(
            severity=engine_pb2.INFO, message=message, urn=self.urn, streamId=0, ephemeral=True
        )
        try:
            _engine(address).Log(request, timeout=_SECONDS)
        except grpc.RpcError:
            print(message, file=sys.stderr)


def _engine_address(argv: tuple[str, ...]) -> str | None:
    addresses = [argument for argument in argv[1:] if not argument.startswith("-")]
    host, _, port = addresses[0].rpartition(":") if addresses else ("", "", "")
    return addresses[0] if host and port.isdecimal() else None


@functools.cache
def _engine(address: str) -> engine_pb2_grpc.EngineStub:
    return engine_pb2_grpc.EngineStub(grpc.insecure_channel(address))
