"""Google ADK 2 with its own instrumentation; the model is scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.runners import InMemoryRunner
from google.genai.types import Content, FunctionCall, Part
from scenario import AGENT, ANSWER, CONVERSATION, INSTRUCTIONS, PROMPT, SCRIPT, finish, lookup_customer, send_email, tracer_provider


class Scripted(BaseLlm):
    """The model's turns, by the number of results it was given."""

    async def generate_content_async(self, llm_request: LlmRequest, *_given: Any, **_named: Any) -> AsyncIterator[LlmResponse]:
        """One turn."""
        turn = sum(part.function_response is not None for content in llm_request.contents for part in content.parts or [])
        part = Part(text=ANSWER)
        if turn < len(SCRIPT):
            call = SCRIPT[turn]
            part = Part(function_call=FunctionCall(id=call.id, name=call.tool, args=call.arguments))
        yield LlmResponse(content=Content(role="model", parts=[part]))


async def main() -> str:
    """One conversation; its last words."""
    agent = LlmAgent(name=AGENT, model=Scripted(model="scripted"), instruction=INSTRUCTIONS, tools=[lookup_customer, send_email])
    runner = InMemoryRunner(agent, app_name="support")
    await runner.session_service.create_session(app_name="support", user_id="ann", session_id=CONVERSATION)
    said = ""
    message = Content(role="user", parts=[Part(text=PROMPT)])
    async for event in runner.run_async(user_id="ann", session_id=CONVERSATION, new_message=message):
        for part in (event.content.parts if event.content else None) or []:
            said = part.text or said
    return said


provider = tracer_provider()
finish(provider, asyncio.run(main()))
