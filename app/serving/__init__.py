"""What every HTTP process of Holdfast shares: configuration files, TLS, tokens, limits and problem details."""

from serving.config import ConfigurationFile, Listen, Tls, configuration_of, read_secret
from serving.control import CutResponse, mounted
from serving.hardening import Problem, harden
from serving.server import serve, serve_forever

__all__ = [
    "ConfigurationFile",
    "CutResponse",
    "Listen",
    "Problem",
    "Tls",
    "configuration_of",
    "harden",
    "mounted",
    "read_secret",
    "serve",
    "serve_forever",
]
