"""The whole program on three clusters, declared once."""

from __future__ import annotations

import pytest

from tests.support.declared import Program, declare


@pytest.fixture(scope="session")
def declared() -> Program:
    return declare()
