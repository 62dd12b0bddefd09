"""A real provider with the plug-in, and what comes out of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_ir import IncidentResponseProcessor

EVENT = "agent.threat.detection"
LARGE = {"to": "audit@collector.example", "body": "x" * 20_000}
"""Arguments of a ``send_email`` with which the shipped rule ``data_exfiltration`` fires."""


class FakeGuard:
    """What the plug-in asks of a guard, written down."""

    def __init__(self) -> None:
        self.held: dict[str, Any] = {}
        self.said: list[tuple[str, Any]] = []

    def restrict(self, restriction: Any) -> None:
        self.said.append(("restrict", restriction))
        self.held[restriction.id] = restriction

    def lift(self, action_id: str) -> None:
        self.said.append(("lift", action_id))
        self.held.pop(action_id, None)


@dataclass
class Agents:
    """A provider whose spans the plug-in sees, and tools to make spans as an agent framework does."""

    processor: IncidentResponseProcessor
    provider: TracerProvider
    memory: InMemorySpanExporter
    guard: FakeGuard = field(default_factory=FakeGuard)

    def start(self, name: str, parent: Span | None = None, **attributes: Any) -> Span:
        from opentelemetry.trace import set_span_in_context

        context = set_span_in_context(parent) if parent is not None else None
        return self.provider.get_tracer("some-agents").start_span(name, context, attributes=attributes)  # type: ignore[return-value]

    @contextmanager
    def run(self, agent: str = "hijacked", parent: Span | None = None, conversation: str | None = None) -> Iterator[Span]:
        """An agent's run, as the GenAI conventions describe it."""
        more = {"gen_ai.conversation.id": conversation} if conversation else {}
        operation = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": agent}
        span = self.start(f"invoke_agent {agent}", parent, **operation, **more)
        try:
            yield span
        finally:
            span.end()

    def call(self, tool: str, parent: Span | None = None, arguments: dict[str, Any] | None = None, **attributes: Any) -> Span:
        """A tool call, from start to end."""
        span = self.start(
            f"execute_tool {tool}",
            parent,
            **{
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": tool,
                "gen_ai.tool.call.arguments": json.dumps(arguments or {"q": 1}),
                "gen_ai.tool.call.result": "done",
                **attributes,
            },
        )
        span.end()
        return span

    def exfiltrate(self, parent: Span | None = None, **attributes: Any) -> Span:
        """A call that raises exactly one alert."""
        return self.call("send_email", parent, LARGE, **attributes)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.memory.get_finished_spans())

    @property
    def own(self) -> list[ReadableSpan]:
        return [span for span in self.spans if span.instrumentation_scope and span.instrumentation_scope.name == "otel_ir"]


def alerts_on(span: ReadableSpan) -> list[Event]:
    return [event for event in span.events if event.name == EVENT]


@pytest.fixture
def agents() -> Iterator[Callable[..., Agents]]:
    made: list[Agents] = []

    def make(*, enforce: bool = False, guard: Any = True, provider: TracerProvider | None = None, **options: Any) -> Agents:
        fake = FakeGuard()
        options.setdefault("budget", 60.0)  # a slow machine is no reason to be late, unless a test says so
        processor = IncidentResponseProcessor(guard=fake if guard is True else guard, enforce=enforce, **options)
        provider = provider or TracerProvider(resource=Resource({"service.name": "desk"}), shutdown_on_exit=False)
        memory = InMemorySpanExporter()
        provider.add_span_processor(processor)
        provider.add_span_processor(SimpleSpanProcessor(memory))
        made.append(Agents(processor, provider, memory, fake))
        return made[-1]

    yield make
    for one in made:
        one.provider.shutdown()
