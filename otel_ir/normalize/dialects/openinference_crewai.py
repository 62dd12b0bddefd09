"""OpenInference on CrewAI: the role of the agent is ``graph.node.id`` of the AGENT span, its other ids are new on every run."""

from __future__ import annotations

from otel_ir.normalize.dialects.openinference import DIALECT as OPENINFERENCE
from otel_ir.normalize.table import On

DIALECT = OPENINFERENCE.but(
    name="openinference.crewai",
    about="OpenInference on CrewAI: the agent is its role; call ids and usage are not on the spans.",
    scopes=("openinference.instrumentation.crewai",),
    markers=(),
    columns={"gen_ai.agent.name": ("gen_ai.agent.name", On("agent_invocation", "agent.name"), On("agent_invocation", "graph.node.id"))},
)
