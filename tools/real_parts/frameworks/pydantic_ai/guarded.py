"""Pydantic AI behind the guard's capability; the model is its FunctionModel."""

from __future__ import annotations

import os

from guard_scenario import DONE, TOOLS, Run, guard, play, provider
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.instrumented import InstrumentationSettings


def model(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
    """Both tools, then what they gave."""
    got = [str(part.content) for part in messages[-1].parts if isinstance(part, ToolReturnPart)]
    if got:
        return ModelResponse(parts=[TextPart(f"{DONE}: {' | '.join(got)}")])
    return ModelResponse(parts=[ToolCallPart(tool, {"customer": "alice"}, tool_call_id=tool) for tool in TOOLS])


def build(name: str, tools: list) -> Run:
    """One agent, guarded."""
    agent = Agent(FunctionModel(model), name=name, tools=tools)
    if native:
        guard.pydantic_ai(agent)
    return lambda: agent.run_sync("go").output


native = os.environ["GUARD_HOOK"] == "native"
Agent.instrument_all(InstrumentationSettings(tracer_provider=provider))
guard.pydantic_ai() if native else guard.otel()
play(build)
