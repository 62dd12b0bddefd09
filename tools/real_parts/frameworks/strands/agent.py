"""Strands with its own instrumentation; the model is scripted."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from scenario import AGENT, ANSWER, CONVERSATION, INSTRUCTIONS, PROMPT, SCRIPT, finish, lookup_customer, send_email, tracer_provider
from strands import Agent, tool
from strands.models import Model


class Scripted(Model):
    """The model's turns, by the number of results it was given."""

    def update_config(self, **_config: Any) -> None:
        """It has none."""

    def get_config(self) -> dict[str, Any]:
        """Its name."""
        return {"model_id": "scripted"}

    async def structured_output(self, *_given: Any, **_named: Any) -> AsyncIterator[Any]:
        """Not used."""
        raise NotImplementedError
        yield

    async def stream(self, messages: list[dict[str, Any]], *_given: Any, **_named: Any) -> AsyncIterator[Any]:
        """One turn."""
        turn = sum("toolResult" in block for message in messages for block in message["content"])
        yield {"messageStart": {"role": "assistant"}}
        if turn < len(SCRIPT):
            call = SCRIPT[turn]
            yield {"contentBlockStart": {"start": {"toolUse": {"name": call.tool, "toolUseId": call.id}}}}
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": json.dumps(call.arguments)}}}}
        else:
            yield {"contentBlockStart": {"start": {}}}
            yield {"contentBlockDelta": {"delta": {"text": ANSWER}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "tool_use" if turn < len(SCRIPT) else "end_turn"}}


provider = tracer_provider()
agent = Agent(
    name=AGENT,
    model=Scripted(),
    system_prompt=INSTRUCTIONS,
    tools=[tool(lookup_customer), tool(send_email)],
    callback_handler=None,
    trace_attributes={"session.id": CONVERSATION},
)
finish(provider, str(agent(PROMPT)).strip())
