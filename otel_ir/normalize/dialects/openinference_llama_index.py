"""OpenInference on LlamaIndex: spans are named ``Class.method``; preparing a prompt is marked LLM, but calls no model."""

from __future__ import annotations

from otel_ir.normalize.dialects.openinference import DIALECT as OPENINFERENCE

DIALECT = OPENINFERENCE.but(
    name="openinference.llama_index",
    about="OpenInference on LlamaIndex: no AGENT span names the agent, tool arguments are wrapped in kwargs.",
    scopes=("openinference.instrumentation.llama_index",),
    markers=(),
    classify=(("none", "openinference.span.kind=LLM", "@name$=._prepare_chat_with_tools"), *OPENINFERENCE.classify),
)
