"""Mastra: conversation and ``mastra.metadata.*`` on every span, the agent on its model calls and its own span only."""

from __future__ import annotations

from otel_ir.normalize.table import CONTENT, Dialect, Remedy

DIALECT = Dialect(
    name="mastra",
    about="Mastra's OpenTelemetry exporter: secrets are redacted at the source; content is captured by default.",
    scopes=("@mastra/*",),
    markers=("mastra.span.type",),
    classify=(
        ("tool_call", "mastra.span.type=tool_call|mcp_tool_call|client_tool_call|provider_tool_call"),
        ("none", "mastra.span.type=model_generation|model_step|model_chunk|workflow_run|workflow_step|processor_run|generic"),
        ("tool_call", "gen_ai.operation.name=execute_tool"),
        ("model_output", "gen_ai.operation.name=chat|generate_content|text_completion"),
        ("agent_invocation", "gen_ai.operation.name=invoke_agent|create_agent"),
    ),
    columns={
        "gen_ai.conversation.id": ("gen_ai.conversation.id", "mastra.metadata.sessionId", "mastra.metadata.threadId", "session.id"),
        "user.id": ("user.id", "enduser.id", "mastra.metadata.userId"),
        "otel_ir.run.id": ("mastra.metadata.runId",),
        "gen_ai.tool.call.arguments": ("gen_ai.tool.call.arguments", "mastra.tool_call.input", "mastra.mcp_tool_call.input"),
        "gen_ai.tool.call.result": ("gen_ai.tool.call.result", "mastra.tool_call.output", "mastra.mcp_tool_call.output"),
        "gen_ai.provider.name": ("gen_ai.provider.name", "gen_ai.system"),
    },
    messages="genai",
    remedies=(
        Remedy(
            "new Observability({sensitiveDataFilter: false})",
            CONTENT,
            "or filter options that let through what rules read; @mastra/observability masks by default",
            undoes="scrubbed",
        ),
    ),
)
