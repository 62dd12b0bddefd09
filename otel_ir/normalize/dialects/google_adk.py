"""Google's Agent Development Kit, 1.x and 2.x.

1.x: ``execute_tool`` stands under ``generate_content`` under ``call_llm``, which are one model call; agent, conversation and user are on
``generate_content``. 2.x: the agent's name is on the tool span. Arguments and results of 2.x need
``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_ONLY`` or ``SPAN_AND_EVENT``. ``{}`` stands for content that is switched off.
Before 1.16 the agent is named only by its span, ``agent_run [NAME]``, and the span of a tool that raised says nothing but its name.
"""

from __future__ import annotations

from otel_ir.normalize.table import CONTENT, Dialect, On, Remedy, Unwrap

CONFIRMATION = (
    r'^(?:\{"id": ?"[^"\\]*", ?"name": ?"[^"\\]*", ?"response": ?)?'
    r'\{"error": ?"This tool call (?:requires confirmation, please approve or reject|is rejected)\."'
)
"""What ADK answers in a tool's place, alone or as the message of that tool."""
DIALECT = Dialect(
    name="google_adk",
    about="Google ADK 1.x (content on by default) and 2.x (off by default).",
    scopes=("gcp.vertex.agent",),
    classify=(
        ("none", "gen_ai.tool.name=(merged tools)"),
        ("none", "@name=execute_tool (merged tools)|execute_tool (merged)"),
        ("handoff", "gen_ai.operation.name=execute_tool", "gen_ai.tool.name=transfer_to_agent"),
        ("tool_call", "gen_ai.operation.name=execute_tool"),
        ("tool_call", "!gen_ai.operation.name", "@name^=execute_tool "),
        ("model_output", "gen_ai.operation.name=generate_content|chat|text_completion"),
        ("model_output", "@name=call_llm"),
        ("agent_invocation", "gen_ai.operation.name=invoke_agent|create_agent"),
        ("agent_invocation", "!gen_ai.operation.name", "@name^=agent_run ["),
    ),
    classify_logs=(("model_output", "@event=gen_ai.client.inference.operation.details"),),
    unwrap=(
        Unwrap("gen_ai.tool.call.arguments", "members", ("agent_name",), needs=r'"agent_name"', event="handoff"),
        Unwrap("gcp.vertex.agent.tool_call_args", "members", ("agent_name",), needs=r'"agent_name"', event="handoff"),
        Unwrap("gen_ai.tool.call.result", "confirmation", ("executed",), needs=CONFIRMATION, event="tool_call"),
        Unwrap("gcp.vertex.agent.tool_response", "confirmation", ("executed",), needs=CONFIRMATION, event="tool_call"),
        Unwrap("@name", "in 'agent_run []'", ("agent",), event="agent_invocation"),
        Unwrap("@name", "after 'execute_tool '", ("rest",), event="tool_call"),
    ),
    columns={
        "gen_ai.agent.name": ("gen_ai.agent.name", On("agent_invocation", "@name#agent")),
        "gen_ai.tool.name": ("gen_ai.tool.name", On("tool_call", "@name#rest")),
        "otel_ir.executed": (
            "otel_ir.executed",
            On("tool_call", "gen_ai.tool.call.result#executed"),
            On("tool_call", "gcp.vertex.agent.tool_response#executed"),
        ),
        "gen_ai.conversation.id": ("gen_ai.conversation.id", "gcp.vertex.agent.session_id", "session.id"),
        "user.id": ("user.id", "enduser.id", "gcp.vertex.agent.user_id"),
        "otel_ir.run.id": ("gcp.vertex.agent.invocation_id",),
        "gen_ai.tool.call.arguments": ("gen_ai.tool.call.arguments", "gcp.vertex.agent.tool_call_args"),
        "gen_ai.tool.call.result": ("gen_ai.tool.call.result", "gcp.vertex.agent.tool_response"),
        "gen_ai.provider.name": ("gen_ai.provider.name", "gen_ai.system"),
        "gen_ai.input.messages": ("gen_ai.input.messages", On("model_output", "gcp.vertex.agent.llm_request")),
        "gen_ai.output.messages": ("gen_ai.output.messages", On("model_output", "gcp.vertex.agent.llm_response")),
        "otel_ir.handoff.from": (On("handoff", "gen_ai.agent.name"),),
        "otel_ir.handoff.to": (
            On("handoff", "gen_ai.tool.call.arguments#agent_name"),
            On("handoff", "gcp.vertex.agent.tool_call_args#agent_name"),
        ),
    },
    bogus={
        "gen_ai.tool.call.id": ("<not specified>", ""),
        "gen_ai.tool.call.arguments": ("<not serializable>", "N/A"),
        "gen_ai.tool.call.result": (
            "{}",
            "<not serializable>",
            "<not specified>",
            '{"result": "<not specified>"}',
            '{"result":"<not specified>"}',
        ),
        "gen_ai.input.messages": ("{}",),
        "gen_ai.output.messages": ("{}",),
    },
    messages="genai",
    rejected=(r'^\{"error": ?"This tool call is rejected',),
    pending=(r'^\{"error": ?"This tool call requires confirmation',),
    nested=True,
    remedies=(
        Remedy(
            "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_AND_EVENT",
            (*CONTENT, "user.id"),
            "ADK 2.x; SPAN_ONLY gives no user id, which stands in log records only; true means EVENT_ONLY: no arguments and results",
        ),
        Remedy(
            "ADK_CAPTURE_MESSAGE_CONTENT_IN_SPANS=true",
            CONTENT,
            "ADK 1.x, and ADK 2.x with ADK_TELEMETRY_SCHEMA_VERSION_OPT_IN=1; the default",
        ),
    ),
)
