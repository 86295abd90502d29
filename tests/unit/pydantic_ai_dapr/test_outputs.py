"""An agent's output comes back as the type that it was."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import NativeOutput, PromptedOutput, TextOutput, ToolOutput
from pydantic_ai_dapr.outputs import OutputCodec

pytestmark = pytest.mark.unit


class Cat(BaseModel):
    name: str


class Dog(BaseModel):
    name: str


@dataclass
class Bird:
    name: str


def shout(text: str) -> Cat:
    return Cat(name=text.upper())


@pytest.mark.parametrize(
    ("spec", "output"),
    [
        (str, "text"),
        (int, 5),
        (Cat, Cat(name="Mia")),
        (Bird, Bird("Pip")),
        (list[Cat], [Cat(name="Mia")]),
        ([Cat, Dog, str], Dog(name="Rex")),
        ([Cat, Dog, str], "neither"),
        (ToolOutput(Dog), Dog(name="Rex")),
        ([ToolOutput(Cat), ToolOutput(Dog)], Dog(name="Rex")),
        (NativeOutput([Cat, Dog]), Dog(name="Rex")),
        (PromptedOutput([Cat, Dog]), Dog(name="Rex")),
        (TextOutput(shout), Cat(name="MIA")),
        ([shout, Dog], Dog(name="Rex")),
        (Cat | Dog, Dog(name="Rex")),
        (str | None, None),
    ],
)
def test_an_output_comes_back_as_the_type_that_it_was(spec: Any, output: Any) -> None:
    codec = OutputCodec(spec)
    back = codec.load(json.loads(json.dumps(codec.dump(output))))
    assert back == output
    assert type(back) is type(output)


def test_an_output_of_another_type_comes_back_as_plain_data() -> None:
    codec = OutputCodec(int)
    assert codec.load(codec.dump(Cat(name="Mia"))) == {"name": "Mia"}
