"""OpenAI Agents SDK with OpenInference's instrumentation, behind the guard's guardrails or the generic guard; the model is scripted."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from agents import Agent, Model, ModelResponse, Runner, Usage, function_tool
from guard_scenario import DONE, TOOLS, Run, guard, play, provider
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor


class Scripted(Model):
    """Both tools, then what they gave."""

    async def get_response(self, **named: Any) -> ModelResponse:
        """One turn."""
        got = [str(item["output"]) for item in named["input"] if isinstance(item, dict) and item.get("type") == "function_call_output"]
        if got:
            text = ResponseOutputText(type="output_text", text=f"{DONE}: {' | '.join(got)}", annotations=[])
            output: list[Any] = [ResponseOutputMessage(type="message", id="1", role="assistant", status="completed", content=[text])]
        else:
            output = [
                ResponseFunctionToolCall(type="function_call", call_id=tool, name=tool, arguments='{"customer": "alice"}') for tool in TOOLS
            ]
        return ModelResponse(output=output, usage=Usage(), response_id=None)

    def stream_response(self, *_given: Any, **_named: Any) -> Any:
        """Not used."""
        raise NotImplementedError


def build(name: str, tools: list) -> Run:
    """One agent, guarded."""
    agent = Agent(name=name, model=Scripted(), tools=[function_tool(tool) for tool in tools])
    if native:
        guard.openai_agents(agent)
    return lambda: asyncio.run(Runner.run(agent, "go")).final_output


native = os.environ["GUARD_HOOK"] == "native"
OpenAIAgentsInstrumentor().instrument(tracer_provider=provider)
guard.openai_agents() if native else guard.otel()
play(build)
