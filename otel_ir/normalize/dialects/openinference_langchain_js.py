"""OpenInference on LangChain.js and LangGraph.js: ids of calls stand in the results of tools only, never in messages."""

from __future__ import annotations

from otel_ir.normalize.dialects.openinference import DIALECT as OPENINFERENCE

DIALECT = OPENINFERENCE.but(
    name="openinference.langchain_js",
    about="OpenInference on LangChain.js: messages give no call ids; a single argument is the bare text.",
    scopes=("@arizeai/openinference-instrumentation-langchain*",),
    markers=(),
    messages="openinference or refused",
    speaks=("model_output", "none"),
    reads=("output.value",),
    nameless=True,
)
