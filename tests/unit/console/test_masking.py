"""A secret is masked by its name or its look, however deep it stands; all else stays as it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some
from pydantic import JsonValue
from service.console.masking import MASK, Masks

pytestmark = pytest.mark.unit

MASKS = Masks(["^ssn$"], [r"\bORD-[0-9]+"])
JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(alphabet='abc {}[]":,1', max_size=12),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.sampled_from(["a", "b"]), inner, max_size=2),
)


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "userPassword",
        "PASSWD",
        "client_secret",
        "Authorization",
        "api_key",
        "apiKey",
        "x-api-key",
        "private-key",
        "session_cookie",
        "token",
        "access_token",
        "pwd",
        "iban",
        "ssn",
    ],
)
@pytest.mark.parametrize("value", ["text", 7, True, ["list"], {"inner": "object"}])
def test_what_stands_under_a_secret_s_name_is_masked(name: str, value: JsonValue) -> None:
    assert MASKS.value({"at": [{name: value, "other": value}]}) == {"at": [{name: MASK, "other": value}]}


@pytest.mark.parametrize("name", ["input_tokens", "output_tokens", "tokens", "keyboard", "author", "ssnx"])
def test_what_only_sounds_like_one_stays(name: str) -> None:
    assert MASKS.value({name: 51}) == {name: 51}


@pytest.mark.parametrize("empty", [None, "", [], {}])
def test_nothing_is_no_secret(empty: JsonValue) -> None:
    assert MASKS.value({"password": empty}) == {"password": empty}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abc.def-123", f"Authorization: {MASK}"),
        ("key sk-proj-abcdefghijklmnop", f"key {MASK}"),
        ("AKIAABCDEFGHIJKLMNOP", MASK),
        ("ghp_abcdefghijklmnopqrstuvwxyz", MASK),
        ("eyJhbGciOiJIUzI1.eyJzdWIiOiIx.c2ln", MASK),
        ("postgres://app:hunter2@host/db", f"postgres://{MASK}@host/db"),
        ("-----BEGIN EC PRIVATE KEY-----\nabc\n-----END EC PRIVATE KEY-----", MASK),
        ("about ORD-10038", f"about {MASK}"),
        ("the bearer of this", "the bearer of this"),
        ("https://host/path", "https://host/path"),
    ],
)
def test_what_looks_like_a_secret_is_masked_wherever_it_stands(text: str, shown: str) -> None:
    assert MASKS.text(text) == shown
    assert MASKS.value([text]) == [shown]


def test_a_name_that_looks_like_a_secret_is_masked_too() -> None:
    assert MASKS.value({"about ORD-10038": 1}) == {f"about {MASK}": 1}


def test_arguments_that_are_json_in_a_text_are_looked_into() -> None:
    assert MASKS.value('{"password": "x", "n": [1]}') == f'{{"password": "{MASK}", "n": [1]}}'
    assert MASKS.value('[{"token": "ä"}, "ä"]') == f'[{{"token": "{MASK}"}}, "ä"]'
    assert MASKS.value('{"n":  1}') == '{"n":  1}'
    assert MASKS.value("{not json Bearer abcdefghij}") == "{not json " + MASK + "}"


@given(JSON)
def test_a_value_without_secrets_stays_as_it_is_and_masking_twice_masks_no_more(value: JsonValue) -> None:
    assert MASKS.value(value) == value
    secret: JsonValue = {"password": value, "x": value}
    assert MASKS.value(MASKS.value(secret)) == MASKS.value(secret)
