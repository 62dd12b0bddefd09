"""OpenLLMetry on OpenAI's client for JavaScript (0.27): of the Responses API only the next request says what was asked for."""

from __future__ import annotations

from otel_ir.normalize.dialects.traceloop import DIALECT as TRACELOOP

DIALECT = TRACELOOP.but(
    name="traceloop.openai_js",
    about="OpenLLMetry on OpenAI's client for JavaScript: calls of the Responses API stand in the text of the next request.",
    scopes=("@traceloop/instrumentation-openai",),
    markers=(),
    messages="flat, genai or items",
)
