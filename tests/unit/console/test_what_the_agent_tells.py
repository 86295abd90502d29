"""The console's picture of the regions is the agent's: each reads and writes it by models of its own."""

from __future__ import annotations

import itertools

import pytest
from pydantic import BaseModel
from region_agent import handover, status
from service.console import neighbour

pytestmark = pytest.mark.unit

PAIRS: list[tuple[type[BaseModel], type[BaseModel]]] = [
    (handover.Node, neighbour.Node),
    (handover.Lease, neighbour.Lease),
    (handover.Cluster, neighbour.Cluster),
    (status.Status, neighbour.AgentStatus),
    (status.EarlyRelease, neighbour.EarlyRelease),
]


@pytest.mark.parametrize(("told", "read"), PAIRS, ids=lambda model: model.__name__)
def test_what_the_console_reads_is_told_by_the_agent(told: type[BaseModel], read: type[BaseModel]) -> None:
    assert read.model_fields.keys() <= told.model_fields.keys()


def test_a_cluster_is_read_as_it_is_told() -> None:
    nodes = [handover.Node(name="b", role="sync_standby", state="streaming", timeline=3, lag="unknown")]
    told = handover.Cluster(nodes=nodes, lease=handover.Lease(ttl=20, loop_wait=1), holder="a")
    assert neighbour.Cluster.model_validate_json(told.model_dump_json()).model_dump() == told.model_dump()


@pytest.mark.parametrize(
    ("role", "state"),
    itertools.product(
        ("leader", "sync_standby", "quorum_standby", "replica"), ("streaming", "running", "starting", "stopped")
    ),
)
def test_the_console_offers_a_switchover_to_whom_the_agent_would_hand_over(role: str, state: str) -> None:
    told = handover.Node(name="b", role=role, state=state)
    assert neighbour.Node.model_validate_json(told.model_dump_json()).in_step == told.can_take_over
