"""Serve the payments service: `python -m refund_desk.payments --config FILE`."""

from __future__ import annotations

import sys
from pathlib import Path

from serving import ConfigurationFile, Listen, Tls, configuration_of, log_to_stderr, read_secret, serve

from refund_desk.payments.app import build_app
from refund_desk.payments.ledger import Ledger


class PaymentsConfig(ConfigurationFile):
    """The service's configuration file."""

    listen: Listen
    tls: Tls
    token_file: Path
    control_token_file: Path
    metrics_token_file: Path | None = None
    ledger: Path
    answer_seconds: float = 0.0


def main(arguments: list[str]) -> int:
    """Serve until told to stop."""
    log_to_stderr()
    config = configuration_of(PaymentsConfig, "refund_desk.payments", arguments)
    config.ledger.parent.mkdir(parents=True, exist_ok=True)
    tokens = read_secret(config.token_file), read_secret(config.control_token_file)
    metrics_token = read_secret(config.metrics_token_file) if config.metrics_token_file else None
    app = build_app(Ledger(config.ledger), *tokens, config.answer_seconds, metrics_token)
    serve(app, config.listen, config.tls)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
