"""``python -m otel_ir.demo.agent NAME``: one support agent, as any user of Pydantic AI would write it.

Its telemetry is the framework's own (``Agent.instrument_all``), sent by the OpenTelemetry SDK's batch processor to where the standard
``OTEL_*`` variables say. Two lines are of otel_ir: the guard, and its hook. Only the model is scripted (Pydantic AI's FunctionModel): no
network, no cost. What it does it also says on stdout, one JSON object a line, so that one can watch it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import threading

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from pydantic_ai import Agent, Tool
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.instrumented import InstrumentationSettings

import otel_ir.guard
from otel_ir.demo.desk import INSTRUCTIONS, PROMPT, TICKETS, Desk, next_step

TURN_SECONDS = 0.8
"""How long the model takes for a turn. Real ones take longer; without it there would be nothing to watch."""

LONGEST = 180.0
"""Seconds after which an agent ends although nobody told it to."""
SHOWN = 400
"""Characters of an argument or a result that are told to whoever watches."""


def say(**what: object) -> None:
    """One line for whoever watches."""
    print(json.dumps(what), flush=True)  # noqa: T201


def _report(tool: str, arguments: dict[str, object], result: str) -> None:
    # The tool's span is the current one here: its id joins what one sees with what an alert cites.
    span_id = f"{trace.get_current_span().get_span_context().span_id:016x}"
    say(
        kind="call",
        tool=tool,
        arguments={name: _short(str(value)) for name, value in arguments.items()},
        result=_short(result),
        span_id=span_id,
    )


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"({len(text):,} characters) {text[:SHOWN]}"


async def _model(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
    _tell_refusals(messages)
    await asyncio.sleep(TURN_SECONDS)
    parts = [part for message in messages for part in message.parts]
    said = " ".join(str(part.content) for part in parts if isinstance(part, UserPromptPart))
    step = next_step(said, [(part.tool_name, str(part.content)) for part in parts if isinstance(part, ToolReturnPart)])
    if isinstance(step, str):
        return ModelResponse(parts=[TextPart(step)])
    return ModelResponse(parts=[ToolCallPart(*step)])


def _tell_refusals(messages: list[ModelMessage]) -> None:
    """What the guard answered in the place of a tool, as the model sees it."""
    for part in messages[-1].parts:
        if isinstance(part, ToolReturnPart) and "was not run" in str(part.content):
            say(kind="blocked", tool=part.tool_name, reason=_short(str(part.content)))


def main(name: str) -> None:
    """Works on its ticket, then stays as a service does, until it is told to end; sends what is left of its telemetry."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    Agent.instrument_all(InstrumentationSettings(tracer_provider=provider))
    guard = otel_ir.guard.install(provider=provider)
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    desk = Desk(_report)
    tools = [Tool(function) for function in (desk.read_ticket, desk.look_up_order, desk.database_query, desk.send_email)]
    agent = Agent(FunctionModel(_model, model_name="scripted"), name=name, instructions=INSTRUCTIONS, tools=tools)
    guard.pydantic_ai(agent)
    ticket = TICKETS[name]
    try:
        result = agent.run_sync(PROMPT.format(ticket=ticket), conversation_id=f"ticket-{ticket}")
        say(kind="answer", text=result.output)
        over.wait(LONGEST)
    finally:
        desk.close()
        guard.close()
        provider.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
