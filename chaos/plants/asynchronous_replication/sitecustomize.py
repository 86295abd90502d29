"""A commit does not wait for the standby, which still counts as synchronous.

The bench holds back what the standby receives just before the fault, as a network does that fails with its region.
"""

from typing import Any

from chaos.plants.hook import after_import


def _patch(module: Any) -> None:
    dynamic = module.dynamic

    def careless(layout: Any) -> Any:
        made = dynamic(layout)
        made["postgresql"]["parameters"]["synchronous_commit"] = "local"
        made["maximum_lag_on_failover"] = 1 << 30
        return made

    module.dynamic = careless


after_import("infra.local.postgres", _patch)
