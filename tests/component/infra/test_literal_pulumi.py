"""A user's own `pulumi up`, `preview`, `refresh` and `destroy` work from the root of a checkout.

Here Pulumi is built from its Go module, and `tests.support.language_host` stands in for the language host
that a user's Pulumi brings.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from infra.local.part import PARTS
from tests.support.checkout import Checkout, make_checkout

pytestmark = pytest.mark.component

PROGRAM = """
from infra.program import main
from tests.support.parts import FileTarget

main(target=FileTarget())
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return make_checkout(tmp_path)


@pytest.fixture
def files(checkout: Checkout) -> Checkout:
    """The checkout with parts that are files."""
    (checkout.root / "infra").unlink()
    (checkout.root / "infra").mkdir()
    (checkout.root / "infra" / ".venv").symlink_to(sys.prefix)
    (checkout.root / "infra" / "__main__.py").write_text(PROGRAM)
    return checkout


def test_a_preview_of_the_checkouts_own_program_shows_every_part(checkout: Checkout) -> None:
    said = checkout.pulumi("preview")

    for part in PARTS:
        assert f" {part} create" in said
    assert not Path(checkout.environment["HOLDFAST_STATE"]).exists()


def test_a_wrong_configuration_is_refused_by_key(checkout: Checkout) -> None:
    checkout.pulumi("config", "set", "--path", "holdfast:lease.ttl", "10")
    checkout.pulumi("config", "set", "holdfast:worker", "3")
    said = checkout.pulumi("up", "--yes", fails=True)

    assert "holdfast:lease.ttl: found 10; allowed: a whole number from 20 to 600" in said
    assert "did you mean holdfast:workers?" in said
    assert checkout.parts() == {}


def test_clusters_without_addresses_are_refused_by_key(checkout: Checkout) -> None:
    checkout.pulumi("stack", "init", "cloud")

    assert "holdfast:kubernetes.address_a: found nothing" in checkout.pulumi("preview", fails=True)


def test_pulumi_brings_up_looks_repairs_and_destroys(files: Checkout) -> None:
    state = Path(files.environment["HOLDFAST_STATE"])
    said = files.pulumi("up", "--yes")
    assert "starting region-b" in said
    assert files.parts() == dict.fromkeys(PARTS, True)
    assert files.pulumi("stack", "output", "api_a").strip() == "https://127.0.0.1/region-a"

    files.pulumi("up", "--yes", "--expect-no-changes")

    (state / "local" / "region-a" / "alive").unlink()
    files.pulumi("refresh", "--yes")
    assert files.parts() == {**dict.fromkeys(PARTS, True), "region-a": False}
    assert "region-a update" in files.pulumi("preview")

    assert "repairing: region-a is dead" in files.pulumi("up", "--yes")
    assert files.parts() == dict.fromkeys(PARTS, True)

    files.pulumi("destroy", "--yes")
    assert files.parts() == {}
    assert not (state / "local").exists()


def test_pulumi_up_alone_repairs_what_died(files: Checkout) -> None:
    files.pulumi("up", "--yes")
    alive = Path(files.environment["HOLDFAST_STATE"]) / "local" / "wan" / "alive"
    alive.unlink()

    files.pulumi("up", "--yes")
    assert alive.exists()


def test_a_failed_up_may_be_destroyed_with_what_it_left(files: Checkout) -> None:
    state = Path(files.environment["HOLDFAST_STATE"])
    (state / "orders").mkdir(parents=True)
    (state / "orders" / "fail-witness").touch()
    said = files.pulumi("up", "--yes", fails=True)
    assert "witness: postgres did not become ready" in said
    assert (state / "local" / "witness").exists()

    files.pulumi("destroy", "--yes")
    assert not (state / "local").exists()
