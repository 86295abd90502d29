"""Run a region's agent: `python -m region_agent --config FILE`."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI
from pydantic import JsonValue
from pydantic_ai_dapr.client import AgentRunClient
from run_index import Epochs, RunIndex
from run_index.database import Database
from service.hosting import load_hosted
from serving import configuration_of, log_to_stderr, process_registry, read_secret, serve
from serving.tracing import provider_for

from region_agent.activation import RegionProcesses
from region_agent.agent import RegionAgent
from region_agent.config import AgentConfig
from region_agent.etcd import LeaseStore
from region_agent.events import EventLog, Hearer, all_of, nobody
from region_agent.meters import EventMeters
from region_agent.metrics import Neighbours, StatusCollector, add_metrics
from region_agent.pairs import Pairs
from region_agent.peer import PeerWatch
from region_agent.rejoin import Rejoin
from region_agent.reminders import Reminders
from region_agent.role import RoleFile
from region_agent.spans import ActivationSpans
from region_agent.status import build_app, status_of
from region_agent.supervisor import Processes, Supervisor
from region_agent.sweep import Sweeper
from region_agent.workloads import CALL_SECONDS, Workloads

LOCAL_SECONDS, LINK_SECONDS, LEASE_SECONDS = 1.0, 0.5, 1.0
DATABASE_SECONDS, NEIGHBOUR_SECONDS = 2.0, 2.0
"""For metrics: less than a scrape takes at most."""


def build_agent(config: AgentConfig, hearer: Hearer = nobody) -> RegionAgent:
    """The agent with its connections; its events are told to `hearer`."""
    context = config.tls.client_context()
    events, role_file = EventLog(config.events_file, hearer), RoleFile(config.role_file, config.region)
    dapr_token = read_secret(config.dapr_token_file)
    index = RunIndex(read_secret(config.database_dsn_file))
    name = load_hosted(config.agent).name

    def client(timeout: float) -> httpx.AsyncClient:
        return httpx.AsyncClient(verify=context, timeout=timeout, trust_env=False)

    def sweeper() -> Sweeper:
        workflows = [AgentRunClient(name, port=sidecar.grpc_port, api_token=dapr_token) for sidecar in config.sidecars]
        return Sweeper(index, list(workflows), events, config.stuck_after_seconds)

    supervisor = _processes(config)
    dapr = httpx.AsyncClient(headers={"dapr-api-token": dapr_token}, timeout=1.0, trust_env=False)
    local = client(LOCAL_SECONDS)
    lease = LeaseStore(client(LEASE_SECONDS), [config.etcd, *config.etcd_others], config.patroni_scope)
    return RegionAgent(
        config=config,
        local=local,
        processes=RegionProcesses(config, supervisor, role_file, events, dapr),
        peer=PeerWatch(config, client(LINK_SECONDS), lease, events),
        lease=lease,
        rejoin=Rejoin(config, local, events, index.standby_timeline),
        index=index,
        epochs=Epochs(index.database),
        make_sweeper=sweeper,
        pairs=Pairs(config.sidecars, supervisor, events),
        reminders=Reminders(config.scheduler.data_dir, config.role_file.with_name("swept.epoch")),
        role_file=role_file,
        events=events,
    )


def _processes(config: AgentConfig) -> Processes:
    """Who starts and stops the region's processes: the configuration names exactly one."""
    if config.kubernetes is not None:
        context = ssl.create_default_context(cafile=str(config.kubernetes.ca))
        client = httpx.AsyncClient(verify=context, timeout=CALL_SECONDS, trust_env=False)
        return Workloads(config.kubernetes, client)
    assert config.supervisor_socket is not None
    return Supervisor(config.supervisor_socket)


def main(arguments: list[str]) -> int:
    """Follow the database and serve until told to stop."""
    config = configuration_of(AgentConfig, "region_agent", arguments)
    registry = process_registry()
    hearers: list[Hearer] = [EventMeters(registry)]
    if config.traces is not None:
        provider = provider_for(config.traces, "region-agent", region=config.region)
        hearers.append(ActivationSpans(provider.get_tracer("holdfast"), config.region))
    agent = build_agent(config, all_of(*hearers))
    log_to_stderr(lambda: told(agent))

    @asynccontextmanager
    async def following(_: FastAPI) -> AsyncGenerator[None]:
        tasks = [asyncio.create_task(agent.run()), asyncio.create_task(agent.rejoin.watch(lambda: agent.member))]
        for task in tasks:
            # An agent that no longer follows must not look healthy: the supervisor starts another.
            task.add_done_callback(lambda task: None if task.cancelled() else os._exit(1))
        yield
        for task in tasks:
            task.cancel()
        await agent.close()

    operator, scraper = (
        read_secret(path) if path else None for path in (config.operator_token_file, config.metrics_token_file)
    )
    app = build_app(agent, read_secret(config.token_file), following, operator, scraper)
    registry.register(StatusCollector(lambda: status_of(agent), config.tls.cert))  # pyright: ignore[reportArgumentType]
    database = Database(read_secret(config.database_dsn_file), timeout=DATABASE_SECONDS, max_connections=1)
    client = httpx.AsyncClient(timeout=NEIGHBOUR_SECONDS, trust_env=False)
    add_metrics(app, registry, database, Neighbours(config.neighbours, client, read_secret(config.dapr_token_file)))
    serve(app, config.listen, config.tls)
    return 0


def told(agent: RegionAgent) -> dict[str, JsonValue]:
    """What the agent says in each line of its log."""
    role = agent.role
    return {"region": agent.config.region, "role": role.role if role else None, "epoch": role.epoch if role else None}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
