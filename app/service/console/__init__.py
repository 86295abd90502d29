"""The operator's console: pages over the same functions that the API has, for people who signed in."""

from service.console.app import Console, build_console

__all__ = ["Console", "build_console"]
