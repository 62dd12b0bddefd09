"""Strands Agents, also on Bedrock AgentCore: arguments and results stand in span events; the agent's name on ``invoke_agent`` only.

``trace_attributes`` that the application gives (session, user) are on every span. With
``OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental`` content stands in attributes, or in the event of the newer conventions.
OpenInference's span processor takes the events away, and puts its own attributes on the same spans.
"""

from __future__ import annotations

from otel_ir.normalize.table import CONTENT, Dialect, On, Remedy, Unwrap

_DETAILS = "event:gen_ai.client.inference.operation.details"

HANDING_OVER = ("handoff", "gen_ai.operation.name=execute_tool", "gen_ai.tool.name=handoff_to_agent")
REJECTED = (r'^\[\{"text": ?"tool cancell?ed by user"',)

DIALECT = Dialect(
    name="strands",
    about="Strands Agents and Bedrock AgentCore: tool arguments and results are span events; content is captured by default.",
    scopes=("strands.telemetry.tracer", "strands.*"),
    classify=(
        HANDING_OVER,
        ("tool_call", "gen_ai.operation.name=execute_tool"),
        ("model_output", "gen_ai.operation.name=chat|generate_content|text_completion"),
        ("agent_invocation", "gen_ai.operation.name=invoke_agent|create_agent"),
    ),
    unwrap=(
        Unwrap("gen_ai.tool.call.arguments", "members", ("agent_name",), needs=r'"agent_name"', event="handoff"),
        Unwrap("event:gen_ai.tool.message/content", "members", ("agent_name",), needs=r'"agent_name"', event="handoff"),
        Unwrap("input.value", "members", ("agent_name",), needs=r'"agent_name"', event="handoff"),
    ),
    columns={
        "gen_ai.conversation.id": ("gen_ai.conversation.id", "session.id"),
        "user.id": ("user.id", "enduser.id"),
        "gen_ai.tool.call.id": ("gen_ai.tool.call.id", "event:gen_ai.tool.message/id"),
        "gen_ai.tool.call.arguments": (
            "gen_ai.tool.call.arguments",
            On("tool_call", "event:gen_ai.tool.message/content"),
            On("handoff", "event:gen_ai.tool.message/content"),
            On("tool_call", "input.value"),
            On("handoff", "input.value"),
        ),
        "gen_ai.tool.call.result": (
            "gen_ai.tool.call.result",
            On("tool_call", "event:gen_ai.choice/message"),
            On("handoff", "event:gen_ai.choice/message"),
            On("tool_call", "output.value"),
            On("handoff", "output.value"),
        ),
        "gen_ai.provider.name": ("gen_ai.provider.name", "gen_ai.system"),
        "gen_ai.usage.input_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
        "gen_ai.usage.output_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
        "gen_ai.input.messages": (
            "gen_ai.input.messages",
            On("model_output", f"{_DETAILS}/gen_ai.input.messages"),
            On("model_output", "event:gen_ai.user.message/content"),
            "@input_messages",
        ),
        "gen_ai.system_instructions": (
            "gen_ai.system_instructions",
            On("model_output", f"{_DETAILS}/gen_ai.system_instructions"),
            On("model_output", "event:gen_ai.system.message/content"),
        ),
        "gen_ai.output.messages": (
            "gen_ai.output.messages",
            On("model_output", f"{_DETAILS}/gen_ai.output.messages"),
            On("model_output", "event:gen_ai.choice/message"),
            "@output_messages",
        ),
        "otel_ir.handoff.to": (
            On("handoff", "gen_ai.tool.call.arguments#agent_name"),
            On("handoff", "event:gen_ai.tool.message/content#agent_name"),
            On("handoff", "input.value#agent_name"),
        ),
    },
    error=("@status=2", "error.type", "gen_ai.tool.status=error"),
    not_errors=(r"\bInterruptException\b",),
    executed="pending_approval",
    messages="strands",
    rejected=REJECTED,
    remedies=(
        Remedy(
            'Agent(trace_attributes={"session.id": ..., "user.id": ...})',
            ("gen_ai.conversation.id", "user.id"),
            "of every agent of a swarm",
        ),
        Remedy(
            "OTEL_SEMCONV_STABILITY_OPT_IN without gen_ai_unredacted_attributes=",
            CONTENT,
            "content is on by default; that token masks all but what it lists",
            undoes="scrubbed",
        ),
    ),
    spanned=True,
)
