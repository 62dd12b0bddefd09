"""smolagents with OpenInference's instrumentation; the model is scripted."""

from __future__ import annotations

from typing import Any

from openinference.instrumentation import using_session
from openinference.instrumentation.smolagents import SmolagentsInstrumentor
from scenario import AGENT, ANSWER, CONVERSATION, PROMPT, SCRIPT, Call, finish, lookup_customer, send_email, tracer_provider
from smolagents import Model, ToolCallingAgent, tool
from smolagents.models import ChatMessage, ChatMessageToolCall, ChatMessageToolCallFunction, MessageRole


def _documented(function: Any, **arguments: str) -> Any:
    """A tool whose arguments are described in its docstring, as smolagents wants it."""
    told = "\n".join(f"    {name}: {text}" for name, text in arguments.items())
    function.__doc__ = f"{function.__doc__}\n\nArgs:\n{told}\n"
    return tool(function)


class Scripted(Model):
    """The model's turns, by the number of results it was given; the last is the framework's own tool for an answer."""

    def generate(self, messages: list[ChatMessage], *_given: Any, **_named: Any) -> ChatMessage:
        """One turn."""
        turn = sum(message.role == MessageRole.TOOL_RESPONSE for message in messages)
        call = SCRIPT[turn] if turn < len(SCRIPT) else Call("call_answer", "final_answer", {"answer": ANSWER})
        function = ChatMessageToolCallFunction(name=call.tool, arguments=call.arguments)
        calls = [ChatMessageToolCall(function=function, id=call.id, type="function")]
        return ChatMessage(role=MessageRole.ASSISTANT, content="", tool_calls=calls)


provider = tracer_provider()
SmolagentsInstrumentor().instrument(tracer_provider=provider)
tools = [_documented(lookup_customer, email="whom"), _documented(send_email, to="whom", body="what")]
agent = ToolCallingAgent(tools=tools, model=Scripted(), name=AGENT, description="x", verbosity_level=0, max_steps=4)
with using_session(CONVERSATION):
    answer = agent.run(PROMPT)
finish(provider, str(answer))
