"""OpenLIT: the GenAI conventions, and on spans of model calls the names and ids of the tools that the model asked for, joined by commas.

On LangGraph every node is an ``invoke_agent`` too, and the id of a tool call that failed is that of the run.
"""

from __future__ import annotations

from otel_ir.normalize.dialects.otel_genai import DIALECT as GENAI
from otel_ir.normalize.table import CONTENT, On, Remedy, Unwrap

DIALECT = GENAI.but(
    name="openlit",
    about="OpenLIT: LangChain and LangGraph, OpenAI Agents, model clients and others; content is captured by default.",
    scopes=("openlit.*",),
    classify=(
        ("handoff", "gen_ai.operation.name=invoke_agent", "gen_ai.agent.source"),
        *GENAI.classify,
    ),
    unwrap=(
        *GENAI.unwrap,
        Unwrap("gen_ai.tool.call.id", "no uuid", ("id",), event="tool_call"),
        Unwrap("gen_ai.tool.call.result", "message repr", ("content",), needs=r"^content=", event="tool_call"),
    ),
    columns={
        "gen_ai.agent.name": ("gen_ai.agent.source", "gen_ai.agent.name"),
        # Never those of a model call, which are lists.
        "gen_ai.tool.name": (On("tool_call", "gen_ai.tool.name"), On("handoff", "gen_ai.tool.name")),
        "gen_ai.tool.call.id": (On("tool_call", "gen_ai.tool.call.id#id"), On("handoff", "gen_ai.tool.call.id")),
        "gen_ai.tool.call.arguments": (On("tool_call", "gen_ai.tool.call.arguments#value"), On("tool_call", "gen_ai.tool.call.arguments")),
        "gen_ai.tool.call.result": (On("tool_call", "gen_ai.tool.call.result#content"), "gen_ai.tool.call.result"),
        "otel_ir.handoff.from": (On("handoff", "gen_ai.agent.source"),),
        "otel_ir.handoff.to": (On("handoff", "gen_ai.agent.name"),),
        "error.message": ("gen_ai.framework.error.message",),
    },
    # Nodes that LangChain's own graph of an agent has.
    bogus={"gen_ai.agent.name": ("model", "agent", "tools", "LangGraph")},
    remedies=(Remedy("openlit.init(capture_message_content=True)", CONTENT, "content is on by default"),),
)
