"""Agents at work, through the real OpenTelemetry SDK."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import StatusCode, Tracer

SECOND = 1_000_000_000


class Agents:
    """Writes tool spans of many agents; ``send`` exports them and waits until they are acknowledged."""

    def __init__(self, tracer: Tracer, provider: TracerProvider) -> None:
        self._tracer, self._provider, self._now = tracer, provider, time.time_ns() - 60 * SECOND

    def call(self, agent: str, tool: str = "look_around", *, at: float = 0, error: bool = False, **arguments: Any) -> None:
        """One call of a tool that ended ``at`` seconds after the beginning of the story (a minute ago)."""
        end = self._now + round(at * SECOND)
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": tool,
            "gen_ai.agent.name": agent,
            "gen_ai.tool.call.arguments": json.dumps(arguments),
        }
        span = self._tracer.start_span(f"execute_tool {tool}", attributes=attributes, start_time=end - 1000)
        if error:
            span.set_status(StatusCode.ERROR, "it broke")
        span.end(end)

    def send(self) -> None:
        """Everything so far is with the server."""
        assert self._provider.force_flush(30_000)


@contextmanager
def agents(endpoint: str) -> Iterator[Agents]:
    """Agents of the service ``shop``, exporting OTLP over gRPC to ``endpoint``."""
    provider = TracerProvider(resource=Resource({"service.name": "shop"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint, insecure=True), max_queue_size=100_000))
    try:
        yield Agents(provider.get_tracer("tests"), provider)
    finally:
        provider.shutdown()
