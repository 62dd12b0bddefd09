"""OpenLLMetry on Agno: a tool's output is the repr of Agno's ``FunctionExecutionResult``, and a failure stands only there."""

from __future__ import annotations

from otel_ir.normalize.dialects.traceloop import ASSOCIATED
from otel_ir.normalize.dialects.traceloop import DIALECT as TRACELOOP
from otel_ir.normalize.table import CONTENT, Remedy, Unwrap

DIALECT = TRACELOOP.but(
    name="traceloop.agno",
    about="OpenLLMetry on Agno: no call ids and no LLM spans; a failed tool has status OK; streamed runs do not name the agent of a call.",
    scopes=("opentelemetry.instrumentation.agno",),
    markers=(),
    unwrap=(
        *(one for one in TRACELOOP.unwrap if one.source != "traceloop.entity.output"),
        Unwrap("traceloop.entity.output", "agno result", ("content", "id", "error", "failure"), needs=r"^status='", event="tool_call"),
    ),
    columns={"gen_ai.agent.name": (*TRACELOOP.columns["gen_ai.agent.name"], "agno.team.name")},
    remedies=(Remedy("TRACELOOP_TRACE_CONTENT=true", CONTENT, "content is on by default"), ASSOCIATED),
)
