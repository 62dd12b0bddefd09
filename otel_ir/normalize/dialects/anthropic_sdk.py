"""The Anthropic client library's own spans (2.12 and later), under or beside those of an instrumentation of the same call."""

from __future__ import annotations

from otel_ir.normalize.dialects.otel_genai import DIALECT as OTEL_GENAI
from otel_ir.normalize.table import CONTENT, Remedy

DIALECT = OTEL_GENAI.but(
    name="anthropic_sdk",
    about="The Anthropic SDK's own spans: model calls, its tool runner; a duplicate where an instrumentation describes the call, too.",
    scopes=("com.anthropic.sdk.*",),
    markers=(),
    inner="anthropic",
    columns={"gen_ai.tool.call.result": ("gen_ai.tool.call.result", "anthropic.tool_result.content")},
    remedies=(
        Remedy(
            "ANTHROPIC_OPEN_TELEMETRY_TRACES_CONTENT_MODE=content",
            CONTENT,
            'or Anthropic(open_telemetry={"traces": {"content_mode": "content"}}); anthropic 2.14, not yet 2.12',
        ),
        Remedy(
            'client.with_options(open_telemetry={"conversation_id": ...})',
            ("gen_ai.conversation.id",),
            "for the requests of one conversation",
        ),
    ),
)
