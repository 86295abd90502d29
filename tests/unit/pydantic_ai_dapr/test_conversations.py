"""A request's messages are whole again wherever it is executed."""

from __future__ import annotations

import asyncio

import pytest
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelRequest
from pydantic_ai_dapr.conversations import Conversations, Inputs, Wire

pytestmark = pytest.mark.unit


def said(*texts: str) -> list[ModelMessage]:
    return [ModelRequest.user_text_prompt(text) for text in texts]


def wire(after: int | None, keep: int, *new: str, parameters: Wire | None = None) -> Wire:
    made: Wire = {"after": after, "keep": keep, "tail": ModelMessagesTypeAdapter.dump_python(said(*new), mode="json")}
    return made | ({"parameters": parameters} if parameters is not None else {})


REQUESTS: dict[int, Wire] = {
    1: wire(None, 0, "a", parameters={"tools": 1}),
    3: wire(1, 1, "b", "c"),
    5: wire(3, 2, "x"),
    7: wire(5, 3, "d", parameters={"tools": 2}),
}


def texts(expanded: Wire) -> list[str]:
    return [str(part.content) for message in expanded["messages"] for part in message.parts]


def conversations(reads: list[str], inputs: Inputs = REQUESTS, limit: int = 8) -> Conversations:
    async def read(instance_id: str) -> Inputs:
        reads.append(instance_id)
        return inputs

    return Conversations(limit, read)


def test_a_process_that_saw_the_last_request_reads_nothing() -> None:
    reads: list[str] = []
    known = conversations(reads)
    seen = [texts(asyncio.run(known.expand("run-1", ordinal, one))) for ordinal, one in REQUESTS.items()]
    assert seen == [["a"], ["a", "b", "c"], ["a", "b", "x"], ["a", "b", "x", "d"]]
    assert reads == []


@pytest.mark.parametrize(("ordinal", "parameters"), [(5, {"tools": 1}), (7, {"tools": 2})])
def test_a_process_that_saw_nothing_reads_the_chain(ordinal: int, parameters: Wire) -> None:
    reads: list[str] = []
    cold = asyncio.run(conversations(reads).expand("run-1", ordinal, REQUESTS[ordinal]))
    warm = conversations([])
    for number in (number for number in REQUESTS if number <= ordinal):
        whole = asyncio.run(warm.expand("run-1", number, REQUESTS[number]))
    assert texts(cold) == texts(whole)
    assert cold["parameters"] == whole["parameters"] == parameters
    assert reads == ["run-1"]


def test_a_history_that_lacks_a_request_is_told() -> None:
    with pytest.raises(LookupError, match="no model request 3"):
        asyncio.run(conversations([], {1: REQUESTS[1]}).expand("run-1", 5, REQUESTS[5]))


def test_only_so_many_conversations_are_remembered() -> None:
    reads: list[str] = []
    known = conversations(reads, limit=1)
    for run in ("run-1", "run-2"):
        asyncio.run(known.expand(run, 1, REQUESTS[1]))
    asyncio.run(known.expand("run-1", 3, REQUESTS[3]))
    assert reads == ["run-1"]
