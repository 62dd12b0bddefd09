"""OpenInference on Haystack: an agent is one span, and what it did stands in the Python repr of its messages only."""

from __future__ import annotations

from otel_ir.normalize.dialects.openinference import DIALECT as OPENINFERENCE

DIALECT = OPENINFERENCE.but(
    name="openinference.haystack",
    about="OpenInference on Haystack: an agent's tool calls stand in the repr of its messages.",
    scopes=("openinference.instrumentation.haystack",),
    markers=(),
    messages="openinference or reprs",
    speaks=("model_output", "none", "agent_invocation"),
    reads=("output.value",),
)
