"""Claude Code's log events (OTEL_LOGS_EXPORTER): in real time, with decisions and sizes; arguments with OTEL_LOG_TOOL_DETAILS.

A record names itself in ``event.name`` (``tool_result``) and in its body (``claude_code.tool_result``). Without details a tool of an MCP
server is only ``mcp_tool``, and names of sub-agents are ``custom``. A result means that the tool ran; a refused call has none.
"""

from __future__ import annotations

from otel_ir.normalize.dialects.claude_code import COLUMNS, REMEDIES
from otel_ir.normalize.table import Dialect, On, Unwrap


def _event(*names: str) -> str:
    return "@event=" + "|".join(f"{prefix}{name}" for name in names for prefix in ("", "claude_code."))


DIALECT = Dialect(
    name="claude_code.events",
    about="Claude Code and Claude Agent SDK, log events: calls with arguments, decisions, model calls; a second description of the spans.",
    scopes=("com.anthropic.claude_code.events",),
    classify_logs=(
        ("handoff", _event("tool_result"), "tool_name=Agent|Task"),
        ("tool_call", _event("tool_result")),
        ("approval", _event("tool_decision")),
        ("model_output", _event("api_request", "api_error")),
    ),
    unwrap=(
        Unwrap(
            "tool_parameters",
            "members",
            ("mcp_tool_name", "subagent_type"),
            needs=r'"(?:mcp_tool_name|subagent_type)"',
        ),
    ),
    columns=COLUMNS
    | {
        "gen_ai.tool.name": ("gen_ai.tool.name", "tool_parameters#mcp_tool_name", "tool_name"),
        "gen_ai.tool.call.arguments": ("gen_ai.tool.call.arguments", On("tool_call", "tool_input"), On("handoff", "tool_input")),
        "otel_ir.arguments.size": (On("tool_call", "tool_input_size_bytes"),),
        "otel_ir.result.size": (On("tool_call", "tool_result_size_bytes"),),
        "otel_ir.executed": (On("tool_call", "=yes"), On("handoff", "=yes")),
        "otel_ir.handoff.to": (On("handoff", "tool_parameters#subagent_type"),),
        "otel_ir.approval.decision": ("decision",),
    },
    error=("success=false", "@event=api_error|claude_code.api_error"),
    call=("agent_id", "session.id"),
    # Of a sub-agent's records only those of its model calls have its name.
    within=("session.id", "agent_id"),
    weak=("gen_ai.tool.name",),
    remedies=REMEDIES,
)
