"""OpenInference on smolagents: the AGENT span is named ``NAME.run``, the class name where the agent has none."""

from __future__ import annotations

from otel_ir.normalize.dialects.openinference import DIALECT as OPENINFERENCE
from otel_ir.normalize.table import On, Unwrap

DIALECT = OPENINFERENCE.but(
    name="openinference.smolagents",
    about="OpenInference on smolagents: the agent is the name of its AGENT span.",
    scopes=("openinference.instrumentation.smolagents",),
    markers=(),
    unwrap=(
        *OPENINFERENCE.unwrap,
        Unwrap("@name", "before '.run'", ("rest",), event="agent_invocation"),
        # Code that the model wrote calls tools as it likes.
        Unwrap("input.value", "named call", ("named",), needs=r'^\s*\{"args": \[[^\]]', event="tool_call", beside="tool.parameters"),
    ),
    columns={
        "gen_ai.agent.name": ("gen_ai.agent.name", On("agent_invocation", "agent.name"), On("agent_invocation", "@name#rest")),
        "gen_ai.tool.call.arguments": (
            "gen_ai.tool.call.arguments",
            On("tool_call", "input.value#named"),
            *OPENINFERENCE.columns["gen_ai.tool.call.arguments"][1:],
        ),
    },
)
