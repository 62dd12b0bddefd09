"""smolagents with OpenInference's instrumentation, behind the generic guard; the model is scripted."""

from __future__ import annotations

import os
from typing import Any

from guard_scenario import DONE, TOOLS, Run, guard, play, provider
from openinference.instrumentation.smolagents import SmolagentsInstrumentor
from smolagents import Model, ToolCallingAgent, tool
from smolagents.models import ChatMessage, ChatMessageToolCall, ChatMessageToolCallFunction, MessageRole


class Scripted(Model):
    """Both tools, then what they gave."""

    def generate(self, messages: list[ChatMessage], *_given: Any, **_named: Any) -> ChatMessage:
        """One turn."""
        said = [str(message.content) for message in messages if message.role in (MessageRole.TOOL_RESPONSE, MessageRole.USER)]
        told = said[-1] if len(said) > 1 else ""
        names = (("final_answer", {"answer": f"{DONE}: {told}"}),) if told else tuple((name, {"customer": "alice"}) for name in TOOLS)
        calls = [
            ChatMessageToolCall(function=ChatMessageToolCallFunction(name=name, arguments=given), id=name, type="function")
            for name, given in names
        ]
        return ChatMessage(role=MessageRole.ASSISTANT, content="", tool_calls=calls)


def build(name: str, tools: list) -> Run:
    """One agent, guarded."""
    agent = ToolCallingAgent(
        tools=[tool(one) for one in tools], model=Scripted(), name=name, description="x", verbosity_level=0, max_steps=4
    )
    return lambda: str(agent.run("go"))


assert os.environ["GUARD_HOOK"] == "otel"
SmolagentsInstrumentor().instrument(tracer_provider=provider)
guard.otel()
play(build)
