"""What every process of Holdfast shares: configuration, TLS, tokens, limits, problem details, metrics and logs."""

from serving.config import ConfigurationFile, Listen, Tls, configuration_of, read_secret
from serving.control import CutResponse, mounted
from serving.hardening import Problem, harden
from serving.logs import log_to_stderr
from serving.measuring import measure, process_registry
from serving.server import serve, serve_forever

__all__ = [
    "ConfigurationFile",
    "CutResponse",
    "Listen",
    "Problem",
    "Tls",
    "configuration_of",
    "harden",
    "log_to_stderr",
    "measure",
    "mounted",
    "process_registry",
    "read_secret",
    "serve",
    "serve_forever",
]
