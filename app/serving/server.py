"""Serves an ASGI application over TLS, and stops within a second when told to."""

from __future__ import annotations

import asyncio
import ssl

import uvicorn
from starlette.types import ASGIApp

from serving.config import Tls

STOP_WITHIN_SECONDS = 1


def _server(app: ASGIApp, listen: str, tls: Tls, *, client_certificates: bool) -> uvicorn.Server:
    host, _, port = listen.rpartition(":")
    config = uvicorn.Config(
        app,
        host=host,
        port=int(port),
        ssl_certfile=tls.cert,
        ssl_keyfile=str(tls.key),
        ssl_ca_certs=str(tls.ca),
        ssl_cert_reqs=ssl.CERT_REQUIRED if client_certificates else ssl.CERT_NONE,
        access_log=False,
        log_config=None,
        log_level="warning",
        timeout_graceful_shutdown=STOP_WITHIN_SECONDS,
        server_header=False,
        lifespan="on",
    )
    return uvicorn.Server(config)


def serve(app: ASGIApp, listen: str, tls: Tls, *, client_certificates: bool = False) -> None:
    """Serve until SIGTERM or SIGINT. With `client_certificates`, only callers whose certificate the root signed."""
    asyncio.run(serve_forever(app, listen, tls, client_certificates=client_certificates))


async def serve_forever(app: ASGIApp, listen: str, tls: Tls, *, client_certificates: bool = False) -> None:
    """The same inside a running loop, beside other tasks."""
    await _server(app, listen, tls, client_certificates=client_certificates).serve()
