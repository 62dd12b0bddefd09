"""OpenLLMetry on LangChain and LangGraph: the agent is ``lc_agent_name``; before 0.6x, and for plain graphs, the name of the workflow."""

from __future__ import annotations

from otel_ir.normalize.dialects.traceloop import DIALECT as TRACELOOP
from otel_ir.normalize.table import Remedy

_AGENT = TRACELOOP.columns["gen_ai.agent.name"]

DIALECT = TRACELOOP.but(
    name="traceloop.langchain",
    about="OpenLLMetry on LangChain and LangGraph: arguments and results are wrapped, the run's id stands as the agent's.",
    scopes=("opentelemetry.instrumentation.langchain",),
    markers=(),
    columns={"gen_ai.agent.name": (*_AGENT, "traceloop.workflow.name")},
    remedies=(
        *TRACELOOP.remedies[:1],
        Remedy(
            'invoke(..., config={"metadata": {"session_id": ..., "user_id": ...}})',
            ("gen_ai.conversation.id", "user.id"),
            "or traceloop-sdk's set_association_properties",
        ),
    ),
)
