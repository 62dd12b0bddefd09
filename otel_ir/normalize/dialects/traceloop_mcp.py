"""OpenLLMetry on MCP: what the client calls; before 0.45 the request and its answer as they are, under the name ``tools/call.mcp``.

The spans around a stream (``RequestStreamWriter``, ``ResponseStreamWriter``) are parts of it, in part in traces of their own.
"""

from __future__ import annotations

from otel_ir.normalize.dialects.traceloop import DIALECT as TRACELOOP
from otel_ir.normalize.table import On, Unwrap

_OUTPUT = next(one for one in TRACELOOP.unwrap if one.source == "traceloop.entity.output" and one.event == "tool_call")

DIALECT = TRACELOOP.but(
    name="traceloop.mcp",
    about="OpenLLMetry on MCP: tool calls as the client makes them, below the tool span of an agent framework or alone.",
    scopes=("opentelemetry.instrumentation.mcp", "opentelemetry.instrumentation.mcp.*"),
    markers=(),
    classify=(
        ("tool_call", "@name=tools/call.mcp"),
        ("detail", "!traceloop.span.kind", "@name=RequestStreamWriter|ResponseStreamWriter"),
        *TRACELOOP.classify,
    ),
    unwrap=(
        *(one for one in TRACELOOP.unwrap if one.event == "tool_call" and not one.source.startswith("traceloop.entity.")),
        *(one for one in TRACELOOP.unwrap if one.event != "tool_call"),
        Unwrap("traceloop.entity.input", "traceloop input", TRACELOOP.unwrap[0].members, needs='"(?:tool_name|method)"', event="tool_call"),
        _OUTPUT._replace(needs=r'(?s)^\s*\{.*"(?:result|isError)"'),
    ),
    columns={"gen_ai.tool.name": (*TRACELOOP.columns["gen_ai.tool.name"], On("tool_call", "traceloop.entity.input#tool"))},
    messages=None,
    inside=True,
)
