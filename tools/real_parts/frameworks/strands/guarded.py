"""Strands with its own instrumentation, behind the generic guard; the model is scripted."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

from guard_scenario import DONE, TOOLS, Run, guard, play
from strands import Agent, tool
from strands.models import Model


class Scripted(Model):
    """Both tools, then what they gave."""

    def update_config(self, **_config: Any) -> None:
        """It has none."""

    def get_config(self) -> dict[str, Any]:
        """It has none."""
        return {}

    async def structured_output(self, *_given: Any, **_named: Any) -> AsyncIterator[Any]:
        """Not used."""
        raise NotImplementedError
        yield

    async def stream(self, messages: list[dict[str, Any]], *_given: Any, **_named: Any) -> AsyncIterator[Any]:
        """One turn."""
        got = [
            part["text"]
            for message in messages
            for block in message["content"]
            if "toolResult" in block
            for part in block["toolResult"]["content"]
            if "text" in part
        ]
        yield {"messageStart": {"role": "assistant"}}
        for name in () if got else TOOLS:
            yield {"contentBlockStart": {"start": {"toolUse": {"name": name, "toolUseId": name}}}}
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": '{"customer": "alice"}'}}}}
            yield {"contentBlockStop": {}}
        if got:
            yield {"contentBlockStart": {"start": {}}}
            yield {"contentBlockDelta": {"delta": {"text": f"{DONE}: {' | '.join(got)}"}}}
            yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn" if got else "tool_use"}}


def build(name: str, tools: list) -> Run:
    """One agent, guarded."""
    agent = Agent(name=name, model=Scripted(), tools=[tool(one) for one in tools], callback_handler=None)
    return lambda: str(agent("go"))


assert os.environ["GUARD_HOOK"] == "otel"
guard.otel()
play(build)
