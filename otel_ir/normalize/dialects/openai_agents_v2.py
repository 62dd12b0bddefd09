"""The contrib package opentelemetry-instrumentation-openai-agents-v2.

It stamps every span with the agent name and id that it was given (by default ``OpenAI Agent`` and ``agent``); only its ``invoke_agent``
spans carry the name of an agent. OpenLLMetry has the same scope name, but always a version.
"""

from __future__ import annotations

from otel_ir.normalize.dialects.otel_genai import DIALECT as GENAI
from otel_ir.normalize.table import CONTENT, On, Remedy

DIALECT = GENAI.but(
    name="openai_agents_v2",
    about="opentelemetry-instrumentation-openai-agents-v2: agent name and id on all spans but invoke_agent are those of its settings.",
    scopes=("opentelemetry.instrumentation.openai_agents@",),
    markers=(),
    columns={"gen_ai.agent.name": (On("agent_invocation", "gen_ai.agent.name"),)},
    bogus={"gen_ai.agent.name": ("OpenAI Agent",), "otel_ir.handoff.to": ("unknown",)},
    ignored=("gen_ai.agent.id",),
    remedies=(
        Remedy(
            "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_AND_EVENT",
            CONTENT,
            "the default; SPAN_ONLY will do, and OTEL_INSTRUMENTATION_OPENAI_AGENTS_CAPTURE_CONTENT is asked next",
        ),
    ),
)
