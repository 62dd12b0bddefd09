"""OpenLLMetry on LangChain and LangGraph: the agent is ``lc_agent_name``; before 0.6x, and for plain graphs, the name of the workflow."""

from __future__ import annotations

from otel_ir.normalize.dialects.traceloop import DIALECT as TRACELOOP

_AGENT = TRACELOOP.columns["gen_ai.agent.name"]

DIALECT = TRACELOOP.but(
    name="traceloop.langchain",
    about="OpenLLMetry on LangChain and LangGraph: arguments and results are wrapped, the run's id stands as the agent's.",
    scopes=("opentelemetry.instrumentation.langchain",),
    markers=(),
    columns={"gen_ai.agent.name": (*_AGENT, "traceloop.workflow.name")},
)
