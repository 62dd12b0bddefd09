"""OpenLLMetry on CrewAI: no tool spans and no LLM spans; calls and results stand in the repr of the crew's task outputs."""

from __future__ import annotations

from otel_ir.normalize.dialects.traceloop import ASSOCIATED
from otel_ir.normalize.dialects.traceloop import DIALECT as TRACELOOP

DIALECT = TRACELOOP.but(
    name="traceloop.crewai",
    about="OpenLLMetry on CrewAI: tool calls stand only in the crew's task outputs, when the crew has ended.",
    scopes=("opentelemetry.instrumentation.crewai*",),
    markers=(),
    classify=(("none", "crewai.crew.tasks_output"), *TRACELOOP.classify),
    messages="crew",
    speaks=("none",),
    remedies=(ASSOCIATED,),
)
