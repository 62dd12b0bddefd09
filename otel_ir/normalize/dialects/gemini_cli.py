"""Gemini CLI 0.61: spans that tell of a tool call as JSON in message attributes (telemetry.traces), and log events without call ids.

A log record of a call stands in the span of its batch; it is told to its call by tool and time. Content needs telemetry.logPrompts, which
is on by default; spans come without telemetry.traces, too, but then without messages and results.
"""

from __future__ import annotations

from otel_ir.normalize.dialects.otel_genai import DIALECT as GENAI
from otel_ir.normalize.table import ANYWHERE, CONTENT, On, Remedy, Unwrap

_REMEDIES = (
    Remedy("telemetry.logPrompts=true", CONTENT[:4], "in settings.json, or GEMINI_TELEMETRY_LOG_PROMPTS; it is on by default"),
    Remedy(
        "telemetry.traces=true",
        CONTENT[1:4],
        "in settings.json, or GEMINI_TELEMETRY_TRACES_ENABLED: log records have none of it",
    ),
)
DIALECT = GENAI.but(
    name="gemini_cli",
    about="Gemini CLI, spans: tool and model calls with all content.",
    scopes=("gemini-cli",),
    markers=(),
    signal="traces",
    classify=(
        ("tool_call", "gen_ai.operation.name=tool_call"),
        ("model_output", "gen_ai.operation.name=llm_call"),
        ("none", "gen_ai.operation.name=schedule_tool_calls"),
        ("agent_invocation", "gen_ai.operation.name=agent_call"),
    ),
    classify_logs=(),
    unwrap=(
        Unwrap("gen_ai.input.messages", "members", ("args",), event="tool_call"),
        Unwrap("gen_ai.output.messages", "scheduled call", ("result", "error", "message", "executed"), event="tool_call"),
    ),
    columns={
        "gen_ai.tool.call.id": ("gen_ai.tool.call.id", "gen_ai.tool.call_id"),
        "gen_ai.tool.call.arguments": ("gen_ai.tool.call.arguments", "gen_ai.input.messages#args"),
        "gen_ai.tool.call.result": ("gen_ai.tool.call.result", "gen_ai.output.messages#result"),
        "gen_ai.input.messages": (On("model_output", "gen_ai.input.messages"),),
        "gen_ai.output.messages": (On("model_output", "gen_ai.output.messages"),),
        "error": ("gen_ai.output.messages#error",),
        "error.message": ("error.message", "gen_ai.output.messages#message"),
        "otel_ir.executed": ("gen_ai.output.messages#executed",),
        "otel_ir.guardrail.triggered": (),
    },
    messages=None,
    call=(f"={ANYWHERE}",),
    remedies=_REMEDIES,
)
EVENTS = GENAI.but(
    name="gemini_cli.events",
    about="Gemini CLI, log events: tool calls; what they say of model calls, the spans say, too.",
    scopes=("gemini-cli",),
    markers=(),
    signal="logs",
    classify=(),
    classify_logs=(("tool_call", "@event=gemini_cli.tool_call"),),
    unwrap=(
        Unwrap("decision", "refusal", ("executed",), event="tool_call"),
        Unwrap("success", "success", ("executed",), event="tool_call"),
    ),
    columns={
        "gen_ai.conversation.id": ("gen_ai.conversation.id", "session.id"),
        "gen_ai.tool.name": ("gen_ai.tool.name", "function_name"),
        "gen_ai.tool.call.arguments": ("gen_ai.tool.call.arguments", On("tool_call", "function_args")),
        "otel_ir.result.size": (On("tool_call", "content_length"),),
        "otel_ir.executed": (On("tool_call", "decision#executed"), On("tool_call", "success#executed")),
        "error.type": ("error_type", "error.type"),
        "error.message": ("error.message", "error"),
        "otel_ir.guardrail.triggered": (),
    },
    bogus={"otel_ir.result.size": ("null", "")},
    error=("success=false", "error.type"),
    messages=None,
    call=(f"={ANYWHERE}",),
    remedies=_REMEDIES,
)
