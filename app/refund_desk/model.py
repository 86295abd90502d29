"""The desk's models: one in the worker that needs no key and no network, one asked over HTTPS, or any other.

The first two answer by the same script; they stand where a language model would, so that a deployment can be tried
and tested anywhere.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pydantic import JsonValue, TypeAdapter
from pydantic_ai.messages import (
    ERROR_OUTCOMES,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, infer_model
from pydantic_ai.models.function import AgentInfo, FunctionModel
from serving import read_secret

from refund_desk.provider import PROVIDERS
from refund_desk.script import Seen, next_calls

if TYPE_CHECKING:
    import httpx2

DETERMINISTIC = "refund_desk:deterministic"
PROVIDED = "refund_desk:provided"
REQUEST_SECONDS = 10.0
"""After which a request to a provider is given up."""
_plain: TypeAdapter[JsonValue] = TypeAdapter(JsonValue)


class ProviderAddress(Protocol):
    """Where the simulated providers are, and the file with their key."""

    @property
    def url(self) -> str: ...
    @property
    def ca(self) -> Path: ...
    @property
    def token_file(self) -> Path: ...


def resolve_model(name: str, latency_seconds: float, provider: ProviderAddress | None = None) -> Model:
    """The model of that name: one of the two above, or any that PydanticAI knows.

    Without a `provider`, the one that asks it can be made and not asked: a replay asks nothing.
    """
    if name == DETERMINISTIC:
        return deterministic_model(latency_seconds)
    if name != PROVIDED:
        return infer_model(name)
    from openai import DefaultAsyncHttpxClient

    if provider is None:
        return provided_model(DefaultAsyncHttpxClient(trust_env=False), "https://provider.invalid", "none")
    trust = ssl.create_default_context(cafile=str(provider.ca))
    http = DefaultAsyncHttpxClient(verify=trust, timeout=REQUEST_SECONDS, trust_env=False)
    return provided_model(http, provider.url, read_secret(provider.token_file))


def deterministic_model(latency_seconds: float = 0.0) -> Model:
    """The script itself; each request takes `latency_seconds`, as a real one would take time."""

    async def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        await asyncio.sleep(latency_seconds)
        calls = next_calls(_seen(messages), info.output_tools[0].name)
        return ModelResponse([ToolCallPart(one.tool, one.arguments, tool_call_id=one.call_id) for one in calls])

    return FunctionModel(respond, model_name="deterministic")


def provided_model(http: httpx2.AsyncClient, url: str, key: str) -> Model:
    """The first simulated provider through PydanticAI's OpenAI client, and the second where the first fails.

    A request is tried once: to try again is the workflow's matter.
    """
    from openai import AsyncOpenAI
    from pydantic_ai.models.fallback import FallbackModel
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    def model(name: str) -> Model:
        client = AsyncOpenAI(
            base_url=f"{url}/{name}/v1", api_key=key, http_client=http, max_retries=0, timeout=http.timeout
        )
        return OpenAIChatModel(f"desk-{name}", provider=OpenAIProvider(openai_client=client))

    return FallbackModel(*map(model, PROVIDERS))


def _seen(messages: Sequence[ModelMessage]) -> Seen:
    parts = [part for message in messages if isinstance(message, ModelRequest) for part in message.parts]
    return Seen(
        prompt=next(str(part.content) for part in parts if isinstance(part, UserPromptPart)),
        answers={
            part.tool_name: _content(part)
            for part in parts
            if isinstance(part, ToolReturnPart) and part.outcome not in ERROR_OUTCOMES
        },
        turn=sum(isinstance(message, ModelResponse) for message in messages),
    )


def _content(part: ToolReturnPart) -> JsonValue:
    """A tool's answer as plain data, whether it is still an object or was restored from JSON."""
    answer = part.model_response_object().get("return_value", part.model_response_object()) if part.content else None
    return _plain.validate_python(answer)
