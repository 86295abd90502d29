"""Serve the simulated model providers: `python -m refund_desk.provider --config FILE`."""

from __future__ import annotations

import sys
from pathlib import Path

from serving import ConfigurationFile, Listen, Tls, configuration_of, log_to_stderr, read_secret, serve

from refund_desk.provider.app import build_app
from refund_desk.provider.conditions import Conditions


class ProviderConfig(ConfigurationFile):
    """The service's configuration file."""

    listen: Listen
    tls: Tls
    token_file: Path
    control_token_file: Path
    metrics_token_file: Path | None = None
    latency_seconds: float = 0.0


def main(arguments: list[str]) -> int:
    """Serve until told to stop."""
    log_to_stderr()
    config = configuration_of(ProviderConfig, "refund_desk.provider", arguments)
    tokens = read_secret(config.token_file), read_secret(config.control_token_file)
    metrics_token = read_secret(config.metrics_token_file) if config.metrics_token_file else None
    serve(build_app(Conditions(), *tokens, config.latency_seconds, metrics_token), config.listen, config.tls)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
