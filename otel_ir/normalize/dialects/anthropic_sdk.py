"""The Anthropic client library's own spans (2.12 and later), under or beside those of an instrumentation of the same call."""

from __future__ import annotations

from otel_ir.normalize.dialects.otel_genai import DIALECT as OTEL_GENAI

DIALECT = OTEL_GENAI.but(
    name="anthropic_sdk",
    about="The Anthropic SDK's own spans: usage and ids, no content; a duplicate where an instrumentation describes the call, too.",
    scopes=("com.anthropic.sdk.*",),
    markers=(),
    inner="anthropic",
)
