"""OpenLLMetry on LlamaIndex: every step is a task; the one with ``tool.name`` is a call, and so is the tool's own below it.

A tool that is called without a workflow has only its own task, ``FunctionTool.task``, which says its name in what it gave.
"""

from __future__ import annotations

from otel_ir.normalize.dialects.traceloop import DIALECT as TRACELOOP
from otel_ir.normalize.table import On, Unwrap

_MEMBERS = ("content", "id", "error", "failure", "tool", "arguments")

DIALECT = TRACELOOP.but(
    name="traceloop.llama_index",
    about="OpenLLMetry on LlamaIndex: tool calls and retrievals are tasks; LLM spans come from the instrumentation of the client.",
    scopes=("opentelemetry.instrumentation.llamaindex",),
    markers=(),
    classify=(
        ("handoff", "traceloop.span.kind=task", "tool.name=handoff", 'tool.arguments*="to_agent"'),
        ("tool_call", "traceloop.span.kind=task", "tool.name"),
        ("tool_call", "traceloop.span.kind=task", "traceloop.entity.name$=Tool.task", 'traceloop.entity.output*="tool_name"'),
        # A retriever's own task stands in another of the same name, which takes the question as it was asked.
        ("retrieval", "traceloop.span.kind=task", "traceloop.entity.name$=Retriever.task", 'traceloop.entity.input*="str_or_query_bundle"'),
        *TRACELOOP.classify,
    ),
    unwrap=(
        *(one for one in TRACELOOP.unwrap if one.source != "traceloop.entity.output"),
        *(Unwrap("traceloop.entity.output", "llama index result", _MEMBERS, event=event) for event in ("tool_call", "handoff")),
        Unwrap("tool.arguments", "members", ("to_agent",), event="handoff"),
    ),
    columns={
        "gen_ai.tool.name": ("gen_ai.tool.name", "tool.name", "traceloop.entity.output#tool"),
        "gen_ai.tool.call.arguments": ("gen_ai.tool.call.arguments", "tool.arguments", "traceloop.entity.output#arguments"),
        "otel_ir.handoff.to": (On("handoff", "tool.arguments#to_agent"),),
    },
    inside=True,
)
