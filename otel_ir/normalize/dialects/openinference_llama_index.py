"""OpenInference on LlamaIndex: spans are named ``Class.method``; preparing a prompt is marked LLM, but calls no model."""

from __future__ import annotations

from otel_ir.normalize.dialects.openinference import DIALECT as OPENINFERENCE
from otel_ir.normalize.table import On, Unwrap

DIALECT = OPENINFERENCE.but(
    name="openinference.llama_index",
    about="OpenInference on LlamaIndex: no AGENT span names the agent, tool arguments are wrapped in kwargs.",
    scopes=("openinference.instrumentation.llama_index",),
    markers=(),
    classify=(
        ("none", "openinference.span.kind=LLM", "@name$=._prepare_chat_with_tools"),
        ("none", "openinference.span.kind=RETRIEVER", "@name$=._retrieve|._aretrieve"),
        # AgentWorkflow's own tool; it gets the workflow's context, too.
        ("handoff", "openinference.span.kind=TOOL", "tool.name=handoff", 'input.value*="to_agent"'),
        *OPENINFERENCE.classify,
    ),
    unwrap=(*OPENINFERENCE.unwrap, Unwrap("input.value", "keyword call", ("kwargs", "to_agent"), event="handoff")),
    columns={
        "gen_ai.tool.name": ("gen_ai.tool.name", "tool.name", On("tool_call", "@name")),
        "gen_ai.tool.call.arguments": (*OPENINFERENCE.columns["gen_ai.tool.call.arguments"], On("handoff", "input.value#kwargs")),
        "otel_ir.handoff.from": (),
        "otel_ir.handoff.to": (On("handoff", "input.value#to_agent"),),
    },
)
