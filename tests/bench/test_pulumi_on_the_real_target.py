"""A user's own Pulumi brings up the real thing, sees what died in it, repairs it, and takes it down."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.leftovers import known_ports, leftovers
from infra.local.part import PARTS
from infra.local.site import kill_site
from tests.support.checkout import Checkout, make_checkout

pytestmark = pytest.mark.bench


@pytest.fixture
def checkout(place: Path) -> Iterator[Checkout]:
    made = make_checkout(place)
    yield made
    subprocess.run(
        [str(made.root / ".venv" / "bin" / "holdfast"), "down"],
        env=dict(made.environment),
        capture_output=True,
        check=False,
    )


def test_up_refresh_up_and_destroy(checkout: Checkout) -> None:
    directory = Path(checkout.environment["HOLDFAST_STATE"]) / "local"
    checkout.pulumi("up", "--yes", "--skip-preview")
    assert checkout.parts() == dict.fromkeys(PARTS, True)
    checkout.pulumi("up", "--yes", "--skip-preview", "--expect-no-changes")
    assert "-----BEGIN" not in checkout.pulumi("stack", "export", "--stack", "local")

    assert kill_site("payments", directory / "payments", directory)
    checkout.pulumi("refresh", "--yes", "--skip-preview")
    assert checkout.parts() == {**dict.fromkeys(PARTS, True), "payments": False}
    assert "repairing: " in checkout.pulumi("up", "--yes", "--skip-preview")
    assert checkout.parts() == dict.fromkeys(PARTS, True)

    used = known_ports(directory)
    checkout.pulumi("destroy", "--yes", "--skip-preview")
    assert not leftovers(directory, used)
