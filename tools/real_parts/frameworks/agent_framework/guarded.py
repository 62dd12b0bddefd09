"""Microsoft Agent Framework with its own instrumentation, behind the generic guard; the model is scripted."""

from __future__ import annotations

import asyncio
import os
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
from agent_framework.observability import ChatTelemetryLayer
from guard_scenario import DONE, TOOLS, Run, guard, play


class Scripted(FunctionInvocationLayer, ChatMiddlewareLayer, ChatTelemetryLayer, BaseChatClient):
    """Both tools, then what they gave."""

    async def _inner_get_response(self, *, messages: Sequence[Message], **_named: Any) -> ChatResponse:
        got = [str(part.result) for message in messages for part in message.contents if part.type == "function_result"]
        if got:
            return ChatResponse(messages=[Message(role="assistant", contents=[f"{DONE}: {' | '.join(got)}"])], response_id="2")
        calls = [Content.from_function_call(call_id=name, name=name, arguments={"customer": "alice"}) for name in TOOLS]
        return ChatResponse(messages=[Message(role="assistant", contents=calls)], response_id="1")


def build(name: str, tools: list) -> Run:
    """One agent, guarded."""
    agent = Agent(client=Scripted(), name=name, tools=[tool(one, approval_mode="never_require") for one in tools])
    return lambda: asyncio.run(agent.run("go")).text


assert os.environ["GUARD_HOOK"] == "otel"
guard.otel()
play(build)
