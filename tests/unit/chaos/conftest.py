"""What tests of the bench share."""

from __future__ import annotations

import pytest
from refund_desk import oracle

from tests.support.histories import remembered


@pytest.fixture(autouse=True)
def _the_oracle_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Histories of many tests are of the same tickets."""
    monkeypatch.setattr(oracle, "decide", remembered)
