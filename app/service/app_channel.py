"""Tells a sidecar, when it asks its app, how to behave while sidecars join or leave; and tells metrics.

Dapr then holds every call of the region until the calls under way have ended, or the drain timeout has passed; and
among those calls are some that wait for the held ones. So a short timeout costs nothing that would have ended.
"""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from serving.measuring import METRICS_PATH, TEXT

DRAIN_SECONDS = 0.25
"""An operation that takes longer is delivered again: to the same worker, which joins it to itself, or to another."""
CONFIGURATION = {
    # Dapr ignores the rest where no actor type is hosted. Nothing calls this one.
    "entities": ["holdfast.worker"],
    "drainOngoingCallTimeout": f"{DRAIN_SECONDS * 1000:.0f}ms",
    "drainRebalancedActors": True,
}


def serve_app_channel(port: int, token: str, metrics: Callable[[], bytes]) -> ThreadingHTTPServer:
    """Answer the sidecar's questions, and tell metrics, on the loopback interface, to holders of the token alone."""
    body = json.dumps(CONFIGURATION).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library's name
            given = self.headers.get("dapr-api-token", "")
            if not hmac.compare_digest(given.encode(), token.encode()):
                self._answer(HTTPStatus.UNAUTHORIZED, b"")
            elif self.path == "/dapr/config":
                self._answer(HTTPStatus.OK, body)
            elif self.path == METRICS_PATH:
                self._answer(HTTPStatus.OK, metrics(), TEXT)
            else:
                self._answer(HTTPStatus.NOT_FOUND, b"")

        def _answer(self, status: HTTPStatus, content: bytes, media_type: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # the library's name
            """Nothing here is worth a line."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="app-channel", daemon=True).start()
    return server
