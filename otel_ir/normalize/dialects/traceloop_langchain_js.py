"""OpenLLMetry on LangChain.js and LangGraph.js (0.27): a tool's span names its class only, and no span is below another.

The result of a tool is the message with its name and the call's id, unless the tool fails. So the span of the graph's node around it, which
has the call in its input, is a second description of the same call, and the only one that says who asked for it. Conversation and user
stand nowhere but in the association properties.
"""

from __future__ import annotations

from otel_ir.normalize.dialects.traceloop import DIALECT as TRACELOOP
from otel_ir.normalize.table import ANYWHERE, Unwrap

_INPUT, _OUTPUT = "traceloop.entity.input", "traceloop.entity.output"
_TOOLS = ("DynamicTool", "DynamicStructuredTool", "StructuredTool", "Tool", "unknown")
"""Classes that say nothing of the tool."""

DIALECT = TRACELOOP.but(
    name="traceloop.langchain_js",
    about="OpenLLMetry on LangChain.js and LangGraph.js: tools by class; the call is named in its result, and in the graph's node.",
    scopes=("@traceloop/instrumentation-langchain*",),
    markers=(),
    classify=(
        ("tool_call", "gen_ai.operation.name=execute_tool"),
        ("tool_call", f'{_INPUT}*="lg_tool_call":'),
        ("agent_invocation", "gen_ai.operation.name=invoke_agent"),
        *TRACELOOP.classify,
    ),
    unwrap=(
        Unwrap(_INPUT, "node call", ("arguments", "tool", "id", "agent", "graph"), event="tool_call"),
        Unwrap(_OUTPUT, "traceloop output", ("content", "id", "name", "error", "failure"), needs=r'"tool_call_id"', event="tool_call"),
    ),
    columns={
        "gen_ai.agent.name": ("gen_ai.agent.name", f"{_INPUT}#agent"),
        "gen_ai.conversation.id": TRACELOOP.columns["gen_ai.conversation.id"][:-1],
        "user.id": TRACELOOP.columns["user.id"][:-1],
        "gen_ai.tool.name": ("gen_ai.tool.name", f"{_INPUT}#tool", f"{_OUTPUT}#name", "traceloop.entity.name"),
        "gen_ai.tool.call.id": ("gen_ai.tool.call.id", f"{_INPUT}#id", f"{_OUTPUT}#id"),
        "gen_ai.tool.call.arguments": ("gen_ai.tool.call.arguments", f"{_INPUT}#arguments"),
        "gen_ai.tool.call.result": ("gen_ai.tool.call.result", f"{_OUTPUT}#content", _OUTPUT),
        "error": (f"{_OUTPUT}#error",),
        "error.message": (f"{_OUTPUT}#failure",),
        "otel_ir.handoff.from": ("gen_ai.handoff.from_agent",),
        "otel_ir.handoff.to": ("gen_ai.handoff.to_agent",),
    },
    bogus={"gen_ai.agent.name": ("", "AgentExecutor"), "gen_ai.tool.name": _TOOLS},
    messages="flat, genai or refused",
    speaks=("model_output", "none"),
    call=(f"{_INPUT}#graph", f"={ANYWHERE}"),
)
