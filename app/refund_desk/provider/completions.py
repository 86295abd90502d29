"""OpenAI's chat completions, as far as an agent with tools uses them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError

from refund_desk.script import Call, Seen, next_calls

OUTPUT_TOOL = "final_result"
_json: TypeAdapter[JsonValue] = TypeAdapter(JsonValue)


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Function(_Wire):
    name: str


class _ToolCall(_Wire):
    id: str
    function: _Function


class Message(_Wire):
    """A message of the conversation. A tool's answer names the call that it answers."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None


class Request(_Wire):
    """What is asked. It is never streamed."""

    model: str
    messages: list[Message]
    stream: Literal[False] | None = None


def seen(messages: Sequence[Message]) -> Seen:
    """What the script decides on. Raises ValueError where there is no ticket."""
    prompt = next((one.content for one in messages if one.role == "user" and one.content), None)
    if prompt is None:
        raise ValueError("messages: none is of the user")
    tools = {call.id: call.function.name for one in messages for call in one.tool_calls or []}
    answers = {tools[one.tool_call_id]: _plain(one.content) for one in messages if one.tool_call_id in tools}
    return Seen(
        prompt=prompt,
        # A call that could not be made is answered with an error, and has to be made again.
        answers={tool: answer for tool, answer in answers.items() if not _is_error(answer)},
        turn=sum(one.role == "assistant" for one in messages),
    )


def completion(request: Request, *, malformed: bool = False, padding: int = 0) -> dict[str, JsonValue]:
    """The answer; with `malformed`, the arguments of its tool calls end in the middle.

    With `padding` it says that many characters beside its calls.
    """
    calls = next_calls(seen(request.messages), OUTPUT_TOOL)
    asked = sum(len(one.content or "") for one in request.messages) // 4
    told = [_call(one, malformed) for one in calls]
    answered = len(json.dumps(told)) // 4
    return {
        "id": f"chatcmpl-{calls[0].call_id}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.model,
        "choices": [
            {
                "index": 0,
                "finish_reason": "tool_calls",
                "message": {"role": "assistant", "content": "." * padding or None, "tool_calls": told},
            }
        ],
        "usage": {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered},
    }


def _call(call: Call, malformed: bool) -> JsonValue:
    arguments = json.dumps(call.arguments)
    return {
        "id": call.call_id,
        "type": "function",
        "function": {"name": call.tool, "arguments": arguments[: len(arguments) // 2] if malformed else arguments},
    }


def _plain(content: str | None) -> JsonValue:
    """A tool's answer: JSON, or the text that it is."""
    if not content:
        return None
    try:
        return _json.validate_json(content)
    except ValidationError:
        return content


def _is_error(answer: JsonValue) -> bool:
    return isinstance(answer, dict) and answer.keys() == {"error"}
