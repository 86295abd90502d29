"""A run whose model fails is completed, with the error inside. The model fails on every fourth ticket."""

from typing import Any

from chaos.plants.hook import after_import


def _fail(module: Any) -> None:
    calls = module._next_calls

    def next_calls(messages: Any, output_tool: str) -> Any:
        from pydantic_ai.exceptions import ModelHTTPError

        prompt = str(messages[0].parts[-1].content)
        if int(prompt.partition("T-")[2][:4]) % 4 == 0:
            raise ModelHTTPError(400, "deterministic", "the provider refuses this ticket")
        return calls(messages, output_tool)

    module._next_calls = next_calls


def _swallow(module: Any) -> None:
    run = module.DaprWorkflowAgentRunner._agent_run

    async def run_and_swallow(self: Any, hosted: Any, run_input: Any) -> dict[str, Any]:
        try:
            return await run(self, hosted, run_input)
        except Exception as error:
            return {"output": f"error: {error}", "output_type": 0, "usage": {}, "messages": []}

    module.DaprWorkflowAgentRunner._agent_run = run_and_swallow


after_import("refund_desk.model", _fail)
after_import("pydantic_ai_dapr.runner", _swallow)
