"""Region b trusts another root than region a: it can't prove what region a has recorded."""

from pathlib import Path
from typing import Any

from chaos.plants.hook import after_import


def _patch(module: Any) -> None:
    write_files, processes, dsn = module.write_files, module.processes, module.dsn

    class OtherRoot(module.Layout):
        @property
        def pki(self) -> Path:
            return self.root / "pki-of-b"

    def layout_of(layout: Any, region: str) -> Any:
        if region != "b":
            return layout
        other = OtherRoot(layout.settings, layout.account, layout.ports)
        other.pki.mkdir(exist_ok=True)
        return other

    # The database is another matter: its certificate is the right one.
    module.dsn = lambda layout, region: dsn(module.Layout(layout.settings, layout.account, layout.ports), region)
    module.write_files = lambda layout, region: write_files(layout_of(layout, region), region)
    module.processes = lambda layout, region: processes(layout_of(layout, region), region)


after_import("infra.local.dapr", _patch)
