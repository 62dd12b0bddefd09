"""OpenInference on smolagents: the AGENT span is named ``NAME.run``, the class name where the agent has none."""

from __future__ import annotations

from otel_ir.normalize.dialects.openinference import DIALECT as OPENINFERENCE
from otel_ir.normalize.table import On, Unwrap

DIALECT = OPENINFERENCE.but(
    name="openinference.smolagents",
    about="OpenInference on smolagents: the agent is the name of its AGENT span.",
    scopes=("openinference.instrumentation.smolagents",),
    markers=(),
    unwrap=(*OPENINFERENCE.unwrap, Unwrap("@name", "before '.run'", ("rest",), event="agent_invocation")),
    columns={"gen_ai.agent.name": ("gen_ai.agent.name", On("agent_invocation", "agent.name"), On("agent_invocation", "@name#rest"))},
)
