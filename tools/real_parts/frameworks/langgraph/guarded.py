"""LangGraph (LangChain's create_agent) with OpenInference's instrumentation, behind the guard's middleware or the generic guard."""

from __future__ import annotations

import os
from typing import Any

from guard_scenario import DONE, TOOLS, Run, guard, play, provider
from langchain.agents import create_agent
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from openinference.instrumentation.langchain import LangChainInstrumentor


class Model(BaseChatModel):
    """Both tools, then what they gave."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, *_given: Any, **_named: Any) -> Model:
        """It knows its tools."""
        return self

    def _generate(self, messages: list[BaseMessage], *_given: Any, **_named: Any) -> ChatResult:
        got = [str(message.content) for message in messages if isinstance(message, ToolMessage)]
        calls = [{"name": tool, "args": {"customer": "alice"}, "id": tool} for tool in TOOLS]
        answer = AIMessage(f"{DONE}: {' | '.join(got)}") if got else AIMessage("", tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=answer)])


def build(name: str, tools: list) -> Run:
    """One agent, guarded."""
    agent = create_agent(Model(), tools, name=name, middleware=middleware)
    config = {"configurable": {"thread_id": f"conversation-of-{name}"}}
    return lambda: agent.invoke({"messages": [("user", "go")]}, config=config)["messages"][-1].content


LangChainInstrumentor().instrument(tracer_provider=provider)
middleware = []
if os.environ["GUARD_HOOK"] == "native":
    middleware.append(guard.langchain())
else:
    guard.otel()
play(build)
