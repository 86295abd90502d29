"""What a service of the bench's own world needs: a way in for the bench, and answers that don't arrive."""

from __future__ import annotations

import logging

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger(__name__)


def mounted(app: ASGIApp, *, control: ASGIApp) -> ASGIApp:
    """`app`, and beside it `control` under `/control`, each behind a token of its own."""
    return Starlette(routes=[Mount("/control", control), Mount("/", app)])


class CutResponse(Response):
    """Promises all of `body`, sends the first `sent` bytes of it, and hangs up."""

    def __init__(self, body: bytes, *, sent: int) -> None:
        super().__init__(body, media_type="application/json", headers={"Content-Length": str(max(len(body), 1))})
        self._sent = sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": bytes(self.body)[: self._sent], "more_body": True})
        # An answer that is never ended makes the server close the connection.
        log.info("hung up after %d bytes", self._sent)
