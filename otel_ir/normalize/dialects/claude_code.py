"""Claude Code, and what is built on the Claude Agent SDK: its spans (beta; CLAUDE_CODE_ENHANCED_TELEMETRY_BETA).

A call is up to three spans: ``tool``, and below it ``tool.blocked_on_user`` (somebody or some setting decides) and ``tool.execution``
(that it ran, and whether it failed: the tool span itself never says so). Sub-agents' spans carry their instance as conversation, so the
session counts first. Without OTEL_LOG_TOOL_DETAILS no arguments, and then only those of some built-in tools.
"""

from __future__ import annotations

from otel_ir.normalize.table import Dialect, On, Remedy, Unwrap

REMEDIES = (
    Remedy("OTEL_LOG_TOOL_DETAILS=1", ("gen_ai.tool.call.arguments", "error.message"), "and names of MCP tools; whole in log events only"),
    Remedy("OTEL_LOG_TOOL_CONTENT=1", ("gen_ai.tool.call.result",), "in spans only: with CLAUDE_CODE_ENHANCED_TELEMETRY_BETA=1"),
)
COLUMNS: dict[str, tuple[str | On, ...]] = {
    "gen_ai.agent.name": ("gen_ai.agent.name", "agent.name"),
    "gen_ai.conversation.id": ("session.id", "gen_ai.conversation.id"),
    "otel_ir.run.id": ("prompt.id",),
    "gen_ai.tool.call.id": ("gen_ai.tool.call.id", "tool_use_id"),
    "gen_ai.request.model": ("gen_ai.request.model", "model"),
    "gen_ai.response.id": ("gen_ai.response.id", "request_id"),
    "gen_ai.provider.name": ("gen_ai.provider.name", "gen_ai.system"),
    # Newer spans also give the sum with what was read from the cache; log records do not.
    "gen_ai.usage.input_tokens": ("input_tokens", "gen_ai.usage.input_tokens"),
    "gen_ai.usage.output_tokens": ("gen_ai.usage.output_tokens", "output_tokens"),
    "error.type": ("error_class", "error_type", "error.type"),
    "error.message": ("error.message", "error"),
}

DIALECT = Dialect(
    name="claude_code",
    about="Claude Code and Claude Agent SDK, spans: one call is a span and the parts below it; results with OTEL_LOG_TOOL_CONTENT.",
    scopes=("com.anthropic.claude_code.tracing",),
    classify=(
        ("handoff", "span.type=tool", "tool_name=Agent|Task"),
        ("tool_call", "span.type=tool"),
        ("detail", "span.type=tool.execution"),
        ("approval", "span.type=tool.blocked_on_user", "decision"),
        ("model_output", "span.type=llm_request"),
        ("agent_invocation", "span.type=interaction"),
    ),
    unwrap=(
        Unwrap("full_command", "as command", ("object",), event="tool_call"),
        Unwrap("file_path", "as file_path", ("object",), event="tool_call"),
    ),
    columns=COLUMNS
    | {
        "gen_ai.tool.name": ("gen_ai.tool.name", "tool_name"),
        "gen_ai.tool.call.arguments": ("gen_ai.tool.call.arguments", "full_command#object", "file_path#object"),
        "gen_ai.tool.call.result": ("gen_ai.tool.call.result", On("tool_call", "event:tool.output/output")),
        "otel_ir.executed": (On("detail", "=yes"),),
        "otel_ir.handoff.to": (On("handoff", "subagent_type"),),
        "otel_ir.approval.decision": ("decision",),
    },
    error=("@status=2", "error.type", "success=false"),
    call=("agent_id", "gen_ai.conversation.id", "session.id"),
    weak=("gen_ai.tool.call.arguments",),
    remedies=REMEDIES,
    hosts=True,
)
