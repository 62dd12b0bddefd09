"""OpenInference on the Claude Agent SDK 0.1: tool calls of Claude Code as the application's process sees them, with all content.

Claude Code itself may describe the same calls. Spans of sub-agents are named after the tool that started them; which agent it is stands in
that tool's arguments. A refused call looks like one that failed, and one whose end the application did not wait for is ``Abandoned``.
"""

from __future__ import annotations

from otel_ir.normalize.dialects.openinference import DIALECT as OPENINFERENCE
from otel_ir.normalize.table import ANYWHERE, On, Unwrap

DIALECT = OPENINFERENCE.but(
    name="openinference.claude_agent_sdk",
    about="OpenInference on the Claude Agent SDK: the tool calls of Claude Code, beside its own telemetry.",
    scopes=("openinference.instrumentation.claude_agent_sdk",),
    markers=(),
    classify=(
        ("handoff", "openinference.span.kind=TOOL", "tool.name=Agent|Task"),
        *OPENINFERENCE.classify,
    ),
    unwrap=(*OPENINFERENCE.unwrap, Unwrap("tool.parameters", "members", ("subagent_type",), event="handoff")),
    columns={
        "gen_ai.tool.name": ("gen_ai.tool.name", "tool.name"),
        "gen_ai.tool.call.id": ("gen_ai.tool.call.id", "tool.id"),
        "gen_ai.tool.call.arguments": ("gen_ai.tool.call.arguments", On("tool_call", "input.value"), On("handoff", "input.value")),
        "gen_ai.tool.call.result": ("gen_ai.tool.call.result", On("tool_call", "output.value"), On("handoff", "output.value")),
        "otel_ir.handoff.from": (),
        "otel_ir.handoff.to": (On("handoff", "tool.parameters#subagent_type"),),
    },
    bogus={"gen_ai.agent.name": ("Agent", "Task")},
    messages=None,
    call=(f"={ANYWHERE}",),
    hosts=True,
)
