"""Mastra: conversation and ``mastra.metadata.*`` on every span, the agent on its model calls and its own span only.

Until 1.0 the exporter had words of its own (``tool.execute``, ``agent.run``) and put what the application says of a run on the agent's span
alone; until it knew the type ``model_inference``, the model's loop stands for its calls. Before ids stood on tools, only steps told them.
"""

from __future__ import annotations

from otel_ir.normalize.table import CONTENT, Dialect, On, Remedy

_CALLS = "tool_call|mcp_tool_call|client_tool_call|provider_tool_call"

DIALECT = Dialect(
    name="mastra",
    about="Mastra's OpenTelemetry exporter: secrets are redacted at the source; content is captured by default.",
    scopes=("@mastra/*",),
    markers=("mastra.span.type",),
    classify=(
        ("tool_call", f"mastra.span.type={_CALLS}"),
        ("agent_invocation", "mastra.span.type=agent_run"),
        ("model_output", "gen_ai.operation.name=chat|tool_selection|generate_content|text_completion"),
        ("none", "mastra.span.type"),
        ("tool_call", "gen_ai.operation.name=execute_tool"),
        ("agent_invocation", "gen_ai.operation.name=invoke_agent|create_agent"),
    ),
    columns={
        "gen_ai.agent.name": ("gen_ai.agent.name", On("agent_invocation", "agent.id")),
        "gen_ai.conversation.id": (
            "gen_ai.conversation.id",
            "mastra.metadata.sessionId",
            "mastra.metadata.threadId",
            "session.id",
            On("agent_invocation", "sessionId"),
            On("agent_invocation", "threadId"),
        ),
        "user.id": ("user.id", "enduser.id", "mastra.metadata.userId", On("agent_invocation", "userId")),
        "otel_ir.run.id": ("mastra.metadata.runId", "runId"),
        "gen_ai.tool.call.arguments": (
            "gen_ai.tool.call.arguments",
            "gen_ai.tool.input",
            "mastra.tool_call.input",
            "mastra.mcp_tool_call.input",
            "mastra.client_tool_call.input",
            "mastra.provider_tool_call.input",
        ),
        "gen_ai.tool.call.result": (
            "gen_ai.tool.call.result",
            "gen_ai.tool.output",
            "mastra.tool_call.output",
            "mastra.mcp_tool_call.output",
            "mastra.client_tool_call.output",
            "mastra.provider_tool_call.output",
        ),
        "gen_ai.provider.name": ("gen_ai.provider.name", "gen_ai.system"),
        "gen_ai.input.messages": (
            "gen_ai.input.messages",
            On("model_output", "gen_ai.prompt"),
            On("agent_invocation", "mastra.agent_run.input"),
        ),
        "gen_ai.output.messages": (
            "gen_ai.output.messages",
            On("model_output", "gen_ai.completion"),
            On("model_output", "mastra.model_generation.output"),
            On("model_output", "mastra.model_step.output"),
            On("model_output", "output"),
            On("agent_invocation", "mastra.agent_run.output"),
        ),
    },
    messages="mastra",
    speaks=("none", "agent_invocation"),
    rejected=(r'^\{"approved":false\b',),
    remedies=(
        Remedy(
            "new Observability({sensitiveDataFilter: false})",
            CONTENT,
            "or filter options that let through what rules read; @mastra/observability masks by default",
            undoes="scrubbed",
        ),
        Remedy(
            "tracingOptions: { metadata: { sessionId, userId } }",
            ("gen_ai.conversation.id", "user.id"),
            "of generate and stream; a memory thread says the conversation, too",
        ),
        Remedy("tracingOptions: { hideInput: false, hideOutput: false }", CONTENT, "content is on by default"),
        Remedy("@mastra/otel-exporter 1.4", ("gen_ai.tool.call.id",), "or later"),
    ),
)
