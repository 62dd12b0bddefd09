"""Pydantic AI with its own OpenTelemetry instrumentation; the model is its FunctionModel."""

from __future__ import annotations

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.instrumented import InstrumentationSettings
from scenario import AGENT, ANSWER, CONVERSATION, INSTRUCTIONS, PROMPT, SCRIPT, finish, lookup_customer, send_email, tracer_provider


def model(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
    """The next turn of the script."""
    turn = sum(isinstance(part, ToolReturnPart) for message in messages for part in message.parts)
    if turn < len(SCRIPT):
        call = SCRIPT[turn]
        return ModelResponse(parts=[ToolCallPart(call.tool, call.arguments, tool_call_id=call.id)])
    return ModelResponse(parts=[TextPart(ANSWER)])


provider = tracer_provider()
Agent.instrument_all(InstrumentationSettings(tracer_provider=provider))
agent = Agent(FunctionModel(model), name=AGENT, instructions=INSTRUCTIONS, tools=[lookup_customer, send_email])
result = agent.run_sync(PROMPT, conversation_id=CONVERSATION)
finish(provider, result.output)
