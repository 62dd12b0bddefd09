"""Logfire on the OpenAI Agents SDK: span names are templates, the values stand in attributes; secrets are scrubbed at the source."""

from __future__ import annotations

from otel_ir.normalize.table import CONTENT, Dialect, On, Remedy, Unwrap

DIALECT = Dialect(
    name="logfire.openai_agents",
    about="Logfire on the OpenAI Agents SDK: conversation and user stand on the root span, call ids only in messages.",
    scopes=("logfire.openai_agents",),
    classify=(
        ("tool_call", "@name^=Function: "),
        ("tool_call", "@name^=MCP tool call"),
        ("handoff", "@name^=Handoff: "),
        ("guardrail", "@name^=Guardrail "),
        ("agent_invocation", "@name^=Agent run: "),
        ("model_output", "gen_ai.operation.name=chat|responses|generate_content|text_completion"),
        ("model_output", "@name^=Responses API"),
        ("model_output", "@name^=Chat completion with "),
    ),
    unwrap=(
        Unwrap("metadata", "members", ("user_id", "session_id", "thread_id"), needs=r'"(?:user_id|session_id|thread_id)"'),
        Unwrap("error", "failure", ("message",), needs=r'"message"'),
    ),
    columns={
        "gen_ai.agent.name": ("gen_ai.agent.name", On("agent_invocation", "name"), "agent_name"),
        "gen_ai.conversation.id": ("gen_ai.conversation.id", "group_id", "session.id", "metadata#session_id", "metadata#thread_id"),
        "user.id": ("user.id", "enduser.id", "metadata#user_id"),
        "gen_ai.tool.name": ("gen_ai.tool.name", On("tool_call", "name")),
        "gen_ai.tool.call.arguments": ("gen_ai.tool.call.arguments", On("tool_call", "input")),
        "gen_ai.tool.call.result": ("gen_ai.tool.call.result", On("tool_call", "output")),
        "error.message": ("error.message", "error#message"),
        "gen_ai.provider.name": ("gen_ai.provider.name", "gen_ai.system"),
        "gen_ai.input.messages": ("gen_ai.input.messages", On("model_output", "raw_input"), On("model_output", "events")),
        "gen_ai.output.messages": ("gen_ai.output.messages", On("model_output", "response")),
        "otel_ir.handoff.from": (On("handoff", "from_agent"),),
        "otel_ir.handoff.to": (On("handoff", "to_agent"),),
        "otel_ir.guardrail.name": (On("guardrail", "name"),),
        "otel_ir.guardrail.triggered": (On("guardrail", "triggered"),),
    },
    bogus=dict.fromkeys(("gen_ai.tool.call.result", "otel_ir.handoff.to", "gen_ai.conversation.id"), ("null",)),
    error=("@status=2", "error.type", "logfire.level_num=17|21"),
    not_errors=(r"GuardrailTripwireTriggered\b",),
    executed="pending_approval",
    messages="events",
    remedies=(
        Remedy(
            "logfire.configure(scrubbing=False)",
            CONTENT,
            "or ScrubbingOptions(callback=...) that lets through what rules read",
            undoes="scrubbed",
        ),
        Remedy('RunConfig(group_id=..., trace_metadata={"user_id": ...})', ("gen_ai.conversation.id", "user.id"), "of the run"),
    ),
)
