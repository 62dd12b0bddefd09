"""Microsoft Agent Framework with its own instrumentation; the model is scripted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from agent_framework import (
    Agent,
    BaseChatClient,
    ChatMiddlewareLayer,
    ChatResponse,
    Content,
    FunctionInvocationLayer,
    Message,
    tool,
)
from agent_framework.observability import ChatTelemetryLayer, enable_instrumentation
from scenario import AGENT, ANSWER, INSTRUCTIONS, PROMPT, SCRIPT, finish, lookup_customer, send_email, tracer_provider


class Scripted(FunctionInvocationLayer, ChatMiddlewareLayer, ChatTelemetryLayer, BaseChatClient):
    """The model's turns, by the number of results it was given."""

    async def _inner_get_response(self, *, messages: Sequence[Message], **_named: Any) -> ChatResponse:
        turn = sum(part.type == "function_result" for message in messages for part in message.contents)
        if turn == len(SCRIPT):
            return ChatResponse(messages=[Message(role="assistant", contents=[ANSWER])], response_id="last")
        call = SCRIPT[turn]
        asked = Content.from_function_call(call_id=call.id, name=call.tool, arguments=json.dumps(call.arguments))
        return ChatResponse(messages=[Message(role="assistant", contents=[asked])], response_id=str(turn))


provider = tracer_provider()
enable_instrumentation(enable_sensitive_data=True)
tools = [tool(one, approval_mode="never_require") for one in (lookup_customer, send_email)]
agent = Agent(client=Scripted(), name=AGENT, instructions=INSTRUCTIONS, tools=tools)
finish(provider, asyncio.run(agent.run(PROMPT)).text)
