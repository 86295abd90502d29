"""What every HTTP process of Holdfast shares: configuration files, TLS, tokens, limits and problem details."""

from serving.config import ConfigurationFile, Listen, Tls, configuration_of, read_secret
from serving.hardening import Problem, harden
from serving.server import serve, serve_forever

__all__ = [
    "ConfigurationFile",
    "Listen",
    "Problem",
    "Tls",
    "configuration_of",
    "harden",
    "read_secret",
    "serve",
    "serve_forever",
]
