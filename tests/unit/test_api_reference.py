"""The reference of the libraries says what their code says."""

from __future__ import annotations

from types import ModuleType

import pytest

from docs import reference

pytestmark = pytest.mark.unit


def test_the_page_is_what_the_code_says() -> None:
    assert reference.PAGE.read_text() == reference.page(), "renew it: .venv/bin/python docs/reference.py"


@pytest.mark.parametrize("library", reference.SECTIONS, ids=lambda library: library.__name__)
def test_every_public_name_has_its_place(library: ModuleType) -> None:
    names = [name for section in reference.SECTIONS[library].values() for name in section.split()]
    assert sorted(names) == sorted(library.__all__)


@pytest.mark.parametrize("library", reference.SECTIONS, ids=lambda library: library.__name__)
def test_every_public_name_says_what_it_is(library: ModuleType) -> None:
    silent = [name for name in library.__all__ if not getattr(library, name).__doc__]
    assert silent == []
