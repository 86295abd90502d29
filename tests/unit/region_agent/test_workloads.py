"""On Kubernetes the region's processes are started and stopped by the number of their pods."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from region_agent import workloads
from region_agent.config import AgentConfig
from region_agent.supervisor import SupervisorError
from region_agent.workloads import KubernetesConfig, Workload, Workloads

from tests.unit.region_agent.stand_ins import Clock, OverError

pytestmark = pytest.mark.unit

WORKERS = Workload(kind="statefulsets", namespace="holdfast", name="worker", replicas=2, selector="app=worker")
SCHEDULER = Workload(
    kind="statefulsets",
    namespace="dapr-system",
    name="dapr-scheduler-server",
    replicas=3,
    selector="app=scheduler",
    forgets="app=scheduler",
)


class Cluster:
    """A cluster's API: numbers of pods by workload, and what is there by kind."""

    def __init__(self) -> None:
        self.replicas = {"worker": 0, "dapr-scheduler-server": 3}
        self.there: dict[str, list[str]] = {"pods": [], "persistentvolumeclaims": []}
        self.asked: list[str] = []
        self.tokens: list[str] = []
        self.answer: Callable[[httpx.Request], httpx.Response] | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.tokens.append(request.headers["authorization"])
        if self.answer is not None:
            return self.answer(request)
        *_, name = parts = request.url.path.split("/")
        if name == "scale":
            if request.method == "PATCH":
                assert request.headers["content-type"] == "application/merge-patch+json"
                self.replicas[parts[-2]] = json.loads(request.content)["spec"]["replicas"]
                self.asked.append(f"{parts[-2]}={self.replicas[parts[-2]]}")
            return httpx.Response(200, json={"spec": {"replicas": self.replicas[parts[-2]]}})
        if request.method == "DELETE":
            self.asked.append(f"forget {name} {request.url.params['labelSelector']}")
            self.there[name] = []
        return httpx.Response(200, json={"items": [{"metadata": {"name": one}} for one in self.there[name]]})


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def processes(cluster: Cluster, tmp_path: Path) -> Workloads:
    (tmp_path / "token").write_text("first\n")
    config = KubernetesConfig(
        token_file=tmp_path / "token", workloads={"daprd-1": WORKERS, "daprd-2": WORKERS, "scheduler": SCHEDULER}
    )
    return Workloads(config, httpx.AsyncClient(transport=httpx.MockTransport(cluster)))


def test_starting_twice_is_starting_once(processes: Workloads, cluster: Cluster) -> None:
    async def both() -> None:
        await processes.start("daprd-1")
        await processes.start("daprd-2")

    asyncio.run(both())

    assert cluster.asked == ["worker=2"]


def test_a_stop_returns_when_the_last_pod_is_gone(
    processes: Workloads, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.replicas["worker"], cluster.there["pods"] = 2, ["worker-1", "worker-2"]
    clock = Clock(lambda: cluster.there["pods"].pop(), lambda: cluster.there["pods"].pop())
    monkeypatch.setattr(workloads.asyncio, "sleep", clock.sleep)

    asyncio.run(processes.stop("daprd-1"))

    assert cluster.asked == ["worker=0"]
    assert len(clock.slept) == 2


def test_a_pod_that_does_not_go_is_named(
    processes: Workloads, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.there["pods"] = ["worker-2"]
    clock = Clock(*[lambda: None] * 1000)
    monkeypatch.setattr(workloads.time, "monotonic", clock.monotonic)
    monkeypatch.setattr(workloads.asyncio, "sleep", clock.sleep)

    with pytest.raises(SupervisorError, match=r"pods in holdfast were still there 30 s .* worker-2; see `kubectl"):
        asyncio.run(processes.stop("daprd-1"))


def test_a_stopped_scheduler_has_no_past_before_it_is_started_again(
    processes: Workloads, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.there["persistentvolumeclaims"] = ["data-0"]

    asyncio.run(processes.stop("scheduler"))
    asyncio.run(processes.start("scheduler"))

    assert cluster.asked == [
        "dapr-scheduler-server=0",
        "forget persistentvolumeclaims app=scheduler",
        "dapr-scheduler-server=3",
    ]


def test_a_claim_that_is_still_going_is_waited_for(
    processes: Workloads, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def going(request: httpx.Request) -> httpx.Response:
        if "scale" in request.url.path:
            return httpx.Response(200, json={"spec": {}})
        claims = request.url.path.endswith("claims") and request.method == "GET"
        return httpx.Response(200, json={"items": [{"metadata": {"name": "data-0"}}] if claims else []})

    cluster.answer = going
    monkeypatch.setattr(workloads.asyncio, "sleep", Clock().sleep)

    with pytest.raises(OverError):
        asyncio.run(processes.stop("scheduler"))


def test_a_token_that_was_replaced_is_used(processes: Workloads, cluster: Cluster, tmp_path: Path) -> None:
    asyncio.run(processes.start("daprd-1"))
    (tmp_path / "token").write_text("second\n")
    asyncio.run(processes.start("daprd-1"))

    assert (cluster.tokens[0], cluster.tokens[-1]) == ("Bearer first", "Bearer second")


def test_no_process_of_another_pod_has_an_id_here(processes: Workloads, cluster: Cluster) -> None:
    assert asyncio.run(processes.running()) == {}


def test_a_process_that_no_workload_runs_is_refused_by_name(processes: Workloads) -> None:
    with pytest.raises(SupervisorError, match="no workload runs 'daprd-9'; there are daprd-1, daprd-2, scheduler"):
        asyncio.run(processes.start("daprd-9"))


def _hangs_up(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no route")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda request: httpx.Response(403, text="may not"), "the cluster's API refused GET .*/scale: may not"),
        (lambda request: httpx.Response(200, text="[]"), "answer makes no sense"),
        (_hangs_up, "does not answer GET .*/scale"),
    ],
)
def test_what_the_cluster_did_not_do_is_an_error(
    processes: Workloads, cluster: Cluster, answer: Callable[[httpx.Request], httpx.Response], reason: str
) -> None:
    cluster.answer = answer

    with pytest.raises(SupervisorError, match=reason):
        asyncio.run(processes.start("daprd-1"))


@pytest.mark.parametrize("supervision", [{}, {"supervisor_socket": "/s", "kubernetes": {"workloads": {}}}])
def test_an_agent_has_exactly_one_way_to_start_processes(config: AgentConfig, supervision: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="give one of supervisor_socket and kubernetes"):
        AgentConfig.model_validate(config.model_dump(exclude={"supervisor_socket", "kubernetes"}) | supervision)
