"""A refund is sent twice, under two keys."""

from types import ModuleType
from typing import Any

from chaos.plants.hook import after_import


def _patch(module: ModuleType) -> None:
    post = module.httpx.AsyncClient.post

    async def twice(self: Any, url: str, **options: Any) -> Any:
        if url == "/refunds":
            again = {**options["headers"], "Idempotency-Key": options["headers"]["Idempotency-Key"] + ":again"}
            await post(self, url, **{**options, "headers": again})
        return await post(self, url, **options)

    module.httpx.AsyncClient.post = twice


after_import("refund_desk.effects", _patch)
