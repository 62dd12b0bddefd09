"""CrewAI's own traces (1.15 and later), which a trace session exports.

The agent's role is its name; ``gen_ai.agent.name`` is a hash of it, and the id changes with every process. A failure and an MCP call have
spans of their own beside the tool's.
"""

from __future__ import annotations

from otel_ir.normalize.dialects.otel_genai import DIALECT as GENAI
from otel_ir.normalize.table import On, Unwrap

DIALECT = GENAI.but(
    name="crewai",
    about="CrewAI's own traces: content, conversation and user are on every span; call ids only in messages.",
    scopes=("crewai",),
    markers=(),
    classify=(
        ("none", "@name=tool failure|execute mcp tool"),
        ("retrieval", "@name=search knowledge"),
        ("guardrail", "@name=evaluate guardrail"),
        *GENAI.classify,
    ),
    unwrap=(*GENAI.unwrap, Unwrap("crewai.guardrail.success", "not", ("triggered",), event="guardrail")),
    columns={
        "gen_ai.agent.name": ("crewai.agent.role", "gen_ai.agent.name"),
        "otel_ir.guardrail.name": (On("guardrail", "crewai.guardrail.description"),),
        "otel_ir.guardrail.triggered": (On("guardrail", "crewai.guardrail.success#triggered"),),
        "otel_ir.run.id": ("crewai.execution_uuid",),
    },
    ignored=("gen_ai.agent.id",),
    remedies=(),
)
