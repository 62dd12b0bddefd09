"""The GenAI conventions on LangChain and LangGraph: a supervisor or a swarm hands over by calling a tool ``transfer_to_…``."""

from __future__ import annotations

from otel_ir.normalize.dialects.otel_genai import DIALECT as GENAI
from otel_ir.normalize.table import On, Unwrap

DIALECT = GENAI.but(
    name="otel_genai.langchain",
    about="OpenTelemetry's instrumentation of LangChain and LangGraph; no content by default.",
    scopes=("opentelemetry.instrumentation.genai.langchain",),
    markers=(),
    classify=(("handoff", "gen_ai.operation.name=execute_tool", "gen_ai.tool.name^=transfer_to_"), *GENAI.classify),
    unwrap=(*GENAI.unwrap, Unwrap("gen_ai.tool.name", "after 'transfer_to_'", ("rest",), event="handoff")),
    columns={
        "otel_ir.handoff.from": (*GENAI.columns["otel_ir.handoff.from"], On("handoff", "gen_ai.agent.name")),
        "otel_ir.handoff.to": (*GENAI.columns["otel_ir.handoff.to"], On("handoff", "gen_ai.tool.name#rest")),
    },
    # langgraph-supervisor runs every agent below a function of this name.
    bogus={"gen_ai.agent.name": ("call_agent",)},
    not_errors=(*GENAI.not_errors, r"ParentCommand\b"),
)
