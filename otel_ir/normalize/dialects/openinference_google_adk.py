"""OpenInference on Google's ADK: tool spans name agent, conversation and user; the one LLM span of an agent tells of its last call only."""

from __future__ import annotations

from otel_ir.normalize.dialects.google_adk import CONFIRMATION
from otel_ir.normalize.dialects.openinference import DIALECT as OPENINFERENCE
from otel_ir.normalize.table import On, Unwrap

DIALECT = OPENINFERENCE.but(
    name="openinference.google_adk",
    about="OpenInference on Google ADK: agent, conversation and user are on the tool spans.",
    scopes=("openinference.instrumentation.google_adk",),
    markers=(),
    classify=(("handoff", "openinference.span.kind=TOOL", "tool.name=transfer_to_agent"), *OPENINFERENCE.classify),
    unwrap=(
        *OPENINFERENCE.unwrap,
        Unwrap("input.value", "members", ("agent_name",), needs=r'"agent_name"', event="handoff"),
        Unwrap("output.value", "confirmation", ("executed",), needs=CONFIRMATION, event="tool_call"),
    ),
    columns={
        "gen_ai.tool.name": ("gen_ai.tool.name", "tool.name"),
        "otel_ir.executed": ("otel_ir.executed", On("tool_call", "output.value#executed")),
        "otel_ir.handoff.from": (On("handoff", "gen_ai.agent.name"),),
        "otel_ir.handoff.to": (On("handoff", "input.value#agent_name"),),
    },
)
