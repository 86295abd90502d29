"""Serve a region's API: `python -m service --config FILE`."""

from __future__ import annotations

import sys

from pydantic_ai_dapr import AgentRunClient
from run_index import RunIndex
from serving import configuration_of, read_secret, serve
from serving.server import log_to_stderr

from service.api import Region, build_app
from service.config import ServiceConfig
from service.hosting import load_hosted
from service.role import RoleFile
from service.sidecars import Sidecars


def main(arguments: list[str]) -> int:
    """Serve until told to stop."""
    log_to_stderr()
    config = configuration_of(ServiceConfig, "service", arguments)
    dapr_token = read_secret(config.dapr_token_file)
    clients = [
        AgentRunClient(config.agent_name, host="127.0.0.1", port=sidecar.grpc_port, api_token=dapr_token)
        for sidecar in config.sidecars
    ]
    region = Region(
        config=config,
        hosted=load_hosted(config.agent),
        index=RunIndex(read_secret(config.database_dsn_file)),
        sidecars=Sidecars(clients),
        role_file=RoleFile(config.role_file),
    )
    serve(build_app(region, read_secret(config.token_file)), config.listen, config.tls)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
