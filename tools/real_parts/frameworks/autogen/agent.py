"""AutoGen with its own instrumentation; the model is its replaying client."""

from __future__ import annotations

import asyncio
import json

from autogen_agentchat.agents import AssistantAgent
from autogen_core import FunctionCall
from autogen_core.models import CreateResult, RequestUsage
from autogen_ext.models.replay import ReplayChatCompletionClient
from scenario import AGENT, ANSWER, INSTRUCTIONS, PROMPT, SCRIPT, finish, lookup_customer, send_email, tracer_provider


def _turn(content: str | list[FunctionCall]) -> CreateResult:
    reason = "stop" if isinstance(content, str) else "function_calls"
    return CreateResult(finish_reason=reason, content=content, usage=RequestUsage(prompt_tokens=50, completion_tokens=10), cached=False)


async def main() -> str:
    """One conversation; its last words."""
    turns = [_turn([FunctionCall(id=call.id, name=call.tool, arguments=json.dumps(call.arguments))]) for call in SCRIPT]
    info = {"vision": False, "function_calling": True, "json_output": False, "family": "unknown", "structured_output": False}
    model = ReplayChatCompletionClient([*turns, _turn(ANSWER)], model_info=info)
    agent = AssistantAgent(
        AGENT, model, tools=[lookup_customer, send_email], system_message=INSTRUCTIONS, max_tool_iterations=len(SCRIPT) + 1
    )
    result = await agent.run(task=PROMPT)
    return result.messages[-1].to_text()


provider = tracer_provider()
finish(provider, asyncio.run(main()))
