"""Random OTLP requests of agents at work, as journal records: bytes, not frames."""

from __future__ import annotations

import json
import random

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_ir.model import Record

SECOND = 1_000_000_000
START = 1_790_000_000 * SECOND
TOOLS = ("read_secret", "http_request", "database_query", "send_email", "file_read", "lookup")


def records(seed: int, count: int, *, agents: int = 3, step: int = 2 * SECOND) -> list[Record]:
    """``count`` requests of a few spans each; half of the tool spans name no agent, whose span comes up to 20 requests later."""
    chance = random.Random(seed)
    requests = [ExportTraceServiceRequest() for _ in range(count)]
    for number in range(count):
        agent = f"agent-{chance.randint(1, agents)}"
        trace = chance.randbytes(16)
        root = chance.randbytes(8)
        named = chance.random() < 0.5
        now = START + number * step
        for _ in range(chance.randint(1, 4)):
            _tool(chance, requests[number], trace, root, agent if named else None, now)
        late = min(count - 1, number + chance.randint(0, 20))
        _agent(requests[late], trace, root, agent, START + late * step)
    return [
        Record(ordinal=ordinal, kind="traces", received=START + ordinal * step, body=request.SerializeToString())
        for ordinal, request in enumerate(requests, start=1)
    ]


def _span(request: ExportTraceServiceRequest, name: str, attributes: dict[str, str]):
    if not request.resource_spans:
        resource = request.resource_spans.add()
        resource.resource.attributes.add(key="service.name").value.string_value = "shop"
        resource.scope_spans.add().scope.name = "some-agent-framework"
    span = request.resource_spans[0].scope_spans[0].spans.add(name=name)
    for key, value in attributes.items():
        span.attributes.add(key=key).value.string_value = value
    return span


def _tool(chance: random.Random, request: ExportTraceServiceRequest, trace: bytes, parent: bytes, agent: str | None, now: int) -> None:
    tool = chance.choice(TOOLS)
    body = "x" * (10_001 if chance.random() < 0.03 else 10)
    arguments = json.dumps({"body": body})
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool, "gen_ai.tool.call.arguments": arguments}
    span = _span(request, f"execute_tool {tool}", attributes | ({"gen_ai.agent.name": agent} if agent else {}))
    span.trace_id, span.span_id, span.parent_span_id = trace, chance.randbytes(8), parent
    span.start_time_unix_nano = now - chance.randint(0, 30) * SECOND
    span.end_time_unix_nano = now - chance.randint(0, 5) * SECOND
    if chance.random() < 0.2:
        span.status.code = 2


def _agent(request: ExportTraceServiceRequest, trace: bytes, span_id: bytes, agent: str, now: int) -> None:
    attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": agent, "gen_ai.conversation.id": agent}
    span = _span(request, f"invoke_agent {agent}", attributes)
    span.trace_id, span.span_id, span.start_time_unix_nano, span.end_time_unix_nano = trace, span_id, now - SECOND, now
