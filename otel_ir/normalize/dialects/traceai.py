"""traceAI (Future AGI): OpenInference under names that begin with ``gen_ai.``; content is on by default."""

from __future__ import annotations

from otel_ir.normalize.dialects.openinference import DIALECT as OPENINFERENCE
from otel_ir.normalize.table import CONTENT, On, Remedy

_KIND = "openinference.span.kind"
_RENAMED = "gen_ai.span.kind"

DIALECT = OPENINFERENCE.but(
    name="traceai",
    about="traceAI: OpenAI Agents, LangChain, model clients and others; OpenInference's spans with attributes of other names.",
    scopes=("traceai_*", "traceai-*", "@traceai/*"),
    classify=tuple((event, *(text.replace(_KIND, _RENAMED) for text in texts)) for event, *texts in OPENINFERENCE.classify),
    columns={
        "gen_ai.agent.name": (*OPENINFERENCE.columns["gen_ai.agent.name"], On("agent_invocation", "graph.node.id")),
        "otel_ir.handoff.from": (),
        "gen_ai.usage.input_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
        "gen_ai.usage.output_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
    },
    remedies=(
        Remedy("FI_HIDE_INPUTS=false", CONTENT[:1], "content is on by default"),
        Remedy("FI_HIDE_OUTPUTS=false", CONTENT[1:2], "content is on by default"),
        Remedy("using_attributes(session_id=..., user_id=...)", ("gen_ai.conversation.id", "user.id"), "around the run of the agent"),
    ),
)
