"""OTLP requests made by hand."""

from __future__ import annotations

import hashlib
import json
import time

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def tool_request(name: str, *, tool: str = "send_email", body: str = "x" * 10_001) -> tuple[ExportTraceServiceRequest, str]:
    """One tool call by an agent of its own that breaks the rule on large bodies; -> (request, agent's name). Ids follow from the name."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "shop"
    span = resource.scope_spans.add().spans.add(name=f"execute_tool {tool}")
    digest = hashlib.sha256(name.encode()).digest()
    span.trace_id, span.span_id = digest[:16], digest[16:24]
    span.end_time_unix_nano = time.time_ns()
    span.start_time_unix_nano = span.end_time_unix_nano - 1000
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": tool,
        "gen_ai.agent.name": f"agent-{name}",
        "gen_ai.tool.call.arguments": json.dumps({"body": body}),
    }
    for key, value in attributes.items():
        span.attributes.add(key=key).value.string_value = value
    return request, f"agent-{name}"
