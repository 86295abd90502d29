"""The sidecars do not sign the histories."""

from typing import Any

from chaos.plants.hook import after_import


def _patch(module: Any) -> None:
    sidecar = module._sidecar

    def careless() -> Any:
        made = sidecar()
        made["spec"]["features"] = []
        return made

    module._sidecar = careless


after_import("infra.local.dapr", _patch)
