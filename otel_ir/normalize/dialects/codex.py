"""OpenAI Codex CLI 0.171 (config.toml, [otel]): log events of tool calls, decisions and answers; spans of dispatched calls.

Arguments and output are always in the log records; spans have neither, and write a server's name and a tool's without anything between.
"""

from __future__ import annotations

from otel_ir.normalize.table import CONTENT, Dialect, On, Remedy

_NAMES: dict[str, tuple[str | On, ...]] = {
    "gen_ai.agent.name": ("gen_ai.agent.name", "agent_name"),
    "gen_ai.conversation.id": ("gen_ai.conversation.id", "conversation.id"),
    "otel_ir.run.id": ("turn.id",),
    "gen_ai.tool.name": ("gen_ai.tool.name", "tool_name"),
    "gen_ai.tool.call.id": ("gen_ai.tool.call.id", "call_id"),
}
DIALECT = Dialect(
    name="codex",
    about="Codex CLI, spans: that a tool call was dispatched.",
    markers=("codex.tool.phase",),
    signal="traces",
    classify=(("tool_call", "codex.tool.phase=dispatch", "call_id"),),
    columns=_NAMES | {"otel_ir.executed": (On("tool_call", "=unknown"),)},
    bogus={"gen_ai.agent.name": ("/root",)},
    call=("conversation.id",),
    weak=("gen_ai.tool.name",),
    remedies=(Remedy("[otel] exporter", CONTENT[:2], "in config.toml: the log events; trace_exporter is for spans only"),),
)
EVENTS = Dialect(
    name="codex.events",
    about="Codex CLI, log events: tool calls with all content, decisions, model calls.",
    scopes=("codex_otel.log_only", "codex_otel"),
    signal="logs",
    classify_logs=(
        ("tool_call", "event.name=codex.tool_result"),
        ("approval", "event.name=codex.tool_decision"),
        ("model_output", "event.name=codex.sse_event", "event.kind=response.completed", "input_token_count"),
    ),
    columns=_NAMES
    | {
        "gen_ai.tool.call.arguments": ("gen_ai.tool.call.arguments", On("tool_call", "arguments")),
        "gen_ai.tool.call.result": ("gen_ai.tool.call.result", On("tool_call", "output")),
        "gen_ai.request.model": ("gen_ai.request.model", "model"),
        "gen_ai.usage.input_tokens": ("gen_ai.usage.input_tokens", "input_token_count"),
        "gen_ai.usage.output_tokens": ("gen_ai.usage.output_tokens", "output_token_count"),
        "otel_ir.approval.decision": ("decision",),
        "otel_ir.executed": (On("tool_call", "=yes"),),
    },
    bogus={"gen_ai.agent.name": ("/root",)},
    error=("success=false",),
    call=("conversation.id",),
    remedies=(),  # a log event of a call has all of it
)
