"""Serve a region's API: `python -m service --config FILE`."""

from __future__ import annotations

import ssl
import sys

from pydantic_ai_dapr import AgentRunClient
from run_index import AuditLog, Epochs, RunIndex
from serving import configuration_of, log_to_stderr, read_secret, serve
from serving.tracing import provider_for

from service.api import build_app
from service.config import ConsoleConfig, ServiceConfig
from service.console import Console
from service.console.access import Role, Sessions
from service.console.masking import Masks
from service.console.neighbour import Neighbour
from service.hosting import load_hosted
from service.region import Region
from service.role import RoleFile, told
from service.sidecars import Sidecars
from service.state_store import state_store


def main(arguments: list[str]) -> int:
    """Serve until told to stop."""
    config = configuration_of(ServiceConfig, "service", arguments)
    role_file = RoleFile(config.role_file)
    log_to_stderr(lambda: told(config.region, role_file.read()))
    dapr_token, dsn = read_secret(config.dapr_token_file), read_secret(config.database_dsn_file)
    hosted = load_hosted(config.agent)
    clients = [
        AgentRunClient(hosted.name, host="127.0.0.1", port=sidecar.grpc_port, api_token=dapr_token)
        for sidecar in config.sidecars
    ]
    index = RunIndex(dsn)
    region = Region(
        config=config,
        hosted=hosted,
        index=index,
        audit=AuditLog(index.database),
        sidecars=Sidecars(clients),
        store=state_store(config.app_id, dsn),
        role_file=role_file,
    )
    token = read_secret(config.token_file)
    console = console_of(region, config.console, token) if config.console else None
    metrics_token = read_secret(config.metrics_token_file) if config.metrics_token_file else None
    app = build_app(region, token, console, metrics_token)
    if config.traces is not None:
        app.state.tracer = provider_for(config.traces, "api", region=config.region).get_tracer("holdfast")
    serve(app, config.listen, config.tls)
    return 0


def console_of(region: Region, config: ConsoleConfig, token: str) -> Console:
    """The console over a region. Raises ValueError where its tokens can't be told apart, or are short."""
    tokens: dict[Role, str] = {
        "viewer": read_secret(config.viewer_token_file),
        "operator": read_secret(config.operator_token_file),
    }
    return Console(
        region=region,
        sessions=Sessions(tokens, lifetime=config.session_minutes * 60, idle=config.idle_minutes * 60),
        epochs=Epochs(region.index.database),
        neighbour=Neighbour(
            config.agent,
            token=token,
            operator_token=tokens["operator"],
            context=ssl.create_default_context(cafile=str(region.config.tls.ca)),
        ),
        masks=Masks(config.mask_keys, config.mask_values),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
