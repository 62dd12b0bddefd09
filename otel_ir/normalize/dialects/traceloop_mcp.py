"""OpenLLMetry's instrumentation of the MCP SDK 1.x: the client's tool calls, with content; writers of streams are parts of them."""

from __future__ import annotations

from otel_ir.normalize.dialects.traceloop import DIALECT as TRACELOOP

DIALECT = TRACELOOP.but(
    name="traceloop.mcp",
    about="OpenLLMetry on the MCP SDK: tool calls as the client makes them, below the tool span of an agent framework or alone.",
    scopes=("opentelemetry.instrumentation.mcp", "opentelemetry.instrumentation.mcp.*"),
    markers=(),
    classify=(
        ("detail", "!traceloop.span.kind", "@name=RequestStreamWriter|ResponseStreamWriter"),
        *TRACELOOP.classify,
    ),
    messages=None,
    inside=True,
)
