"""Serve a region's API: `python -m service --config FILE`."""

from __future__ import annotations

import sys

from pydantic_ai_dapr import AgentRunClient
from run_index import RunIndex
from serving import configuration_of, read_secret, serve
from serving.server import log_to_stderr

from service.api import build_app
from service.config import ServiceConfig
from service.hosting import load_hosted
from service.region import Region
from service.role import RoleFile
from service.sidecars import Sidecars
from service.state_store import state_store


def main(arguments: list[str]) -> int:
    """Serve until told to stop."""
    log_to_stderr()
    config = configuration_of(ServiceConfig, "service", arguments)
    dapr_token, dsn = read_secret(config.dapr_token_file), read_secret(config.database_dsn_file)
    hosted = load_hosted(config.agent)
    clients = [
        AgentRunClient(hosted.name, host="127.0.0.1", port=sidecar.grpc_port, api_token=dapr_token)
        for sidecar in config.sidecars
    ]
    region = Region(
        config=config,
        hosted=hosted,
        index=RunIndex(dsn),
        sidecars=Sidecars(clients),
        store=state_store(config.app_id, dsn),
        role_file=RoleFile(config.role_file),
    )
    serve(build_app(region, read_secret(config.token_file)), config.listen, config.tls)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
