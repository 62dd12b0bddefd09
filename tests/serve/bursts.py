"""Rules about bursts and single calls, and requests with calls of one agent, whose own span may come later."""

from __future__ import annotations

import hashlib
import json
import time

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SECOND = 1_000_000_000
BURST = """title: Too many calls of {tool}
id: 1f0d4a8e-52b7-4a4e-9a53-0000000000{number:02d}
name: burst_{tool}
status: test
level: high
correlation:
  type: event_count
  rules: [any_{tool}]
  group-by: [otel_ir.agent.id]
  timespan: 1m
  condition: {{gt: {limit}}}
---
title: Any call of {tool}
id: 2f0d4a8e-52b7-4a4e-9a53-0000000000{number:02d}
name: any_{tool}
status: test
level: low
logsource: {{product: opentelemetry, category: ai_agent, service: tool_call}}
detection:
  selection: {{gen_ai.tool.name: {tool}}}
  condition: selection
"""
PLAIN = """title: {title}
id: 3f0d4a8e-52b7-4a4e-9a53-0000000000{number:02d}
name: {name}
status: test
level: critical
logsource: {{product: opentelemetry, category: ai_agent, service: tool_call}}
detection:
  selection: {{{test}}}
  condition: selection
"""


def calls(name: str, *, tool: str, number: int, first: int = 0, body: str = "", named: bool = True) -> ExportTraceServiceRequest:
    """Tool calls ``first`` … of one agent in one trace, a second apart, the last one now; the agent's own span comes in ``owner``."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "shop"
    spans = resource.scope_spans.add().spans
    for at in range(number):
        span = spans.add(name=f"execute_tool {tool}", trace_id=identity(name, 16), span_id=identity(f"{name}/{tool}/{first + at}", 8))
        span.parent_span_id = identity(f"{name}/agent", 8)
        span.end_time_unix_nano = time.time_ns() - (number - 1 - at) * SECOND
        span.start_time_unix_nano = span.end_time_unix_nano - 1000
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": tool,
            "gen_ai.tool.call.arguments": json.dumps({"body": body}),
        }
        attributes |= {"gen_ai.agent.name": name} if named else {}
        for key, value in attributes.items():
            span.attributes.add(key=key).value.string_value = value
    return request


def owner(name: str) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "shop"
    span = resource.scope_spans.add().spans.add(
        name=f"invoke_agent {name}", trace_id=identity(name, 16), span_id=identity(f"{name}/agent", 8)
    )
    span.end_time_unix_nano = time.time_ns()
    span.start_time_unix_nano = span.end_time_unix_nano - 20 * SECOND
    for key, value in {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name}.items():
        span.attributes.add(key=key).value.string_value = value
    return request


def identity(text: str, size: int) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:size]
