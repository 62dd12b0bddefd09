"""Pydantic AI, instrumentation formats 1 to 5 (packages 1.0 to 2.x), also through Logfire's SDK.

Formats 1 and 2 name a tool span ``running tool``, and up to package 1.9x no tool span names its operation. From 1.10x on every span
carries agent, conversation and run, copied through baggage. A call that waits for approval has no tool span, or says so on it; any other
tool span means that the tool ran.
"""

from __future__ import annotations

from otel_ir.normalize.table import CONTENT, Dialect, Remedy, Unwrap

DIALECT = Dialect(
    name="pydantic_ai",
    about="Pydantic AI 1.0 to 2.x (formats 1 to 5); content is captured by default.",
    scopes=("pydantic-ai", "logfire.pydantic_ai"),
    classify=(
        ("tool_call", "gen_ai.operation.name=execute_tool"),
        ("tool_call", "@name=running tool"),
        ("tool_call", "!gen_ai.operation.name", "@name^=execute_tool ", "gen_ai.tool.name"),
        ("model_output", "gen_ai.operation.name=chat|text_completion|generate_content"),
        ("agent_invocation", "gen_ai.operation.name=invoke_agent"),
        ("agent_invocation", "@name=agent run"),
        ("agent_invocation", "!gen_ai.operation.name", "@name^=invoke_agent "),
        ("retrieval", "gen_ai.operation.name=retrieval"),
    ),
    unwrap=(
        Unwrap("metadata", "members", ("user_id", "session_id", "thread_id"), needs=r'"(?:user_id|session_id|thread_id)"'),
        Unwrap("pydantic_ai.tool.deferral.name", "deferral", ("executed",)),
        Unwrap("event:exception/exception.type", "deferral", ("executed",), needs=r"(?:ApprovalRequired|CallDeferred)$"),
    ),
    columns={
        "gen_ai.agent.name": ("gen_ai.agent.name", "agent_name"),
        "gen_ai.conversation.id": ("gen_ai.conversation.id", "session.id", "metadata#session_id", "metadata#thread_id"),
        "user.id": ("user.id", "enduser.id", "metadata#user_id"),
        "otel_ir.run.id": ("gen_ai.agent.call.id",),
        "gen_ai.tool.call.arguments": ("gen_ai.tool.call.arguments", "tool_arguments"),
        "gen_ai.tool.call.result": ("gen_ai.tool.call.result", "tool_response"),
        "otel_ir.executed": ("pydantic_ai.tool.deferral.name#executed", "event:exception/exception.type#executed"),
        "gen_ai.provider.name": ("gen_ai.provider.name", "gen_ai.system"),
        "gen_ai.request.model": ("gen_ai.request.model", "model_name"),
        "gen_ai.input.messages": ("gen_ai.input.messages", "events"),
    },
    not_errors=(r"(?:^|\.)(?:ToolRetry(?:Error)?|ModelRetry|CallDeferred|ApprovalRequired|UnexpectedModelBehaviorRetry)\b",),
    executed="yes",
    unproven="yes",
    messages="pydantic",
    speaks=("agent_invocation",),
    reads=("final_result", "pydantic_ai.all_messages", "all_messages_events"),
    spanned=True,
    remedies=(
        Remedy("InstrumentationSettings(include_content=True)", CONTENT, "content is on by default"),
        Remedy(
            "InstrumentationSettings(version=3)",
            ("gen_ai.agent.name", "gen_ai.conversation.id", "otel_ir.run.id"),
            "or later; pydantic-ai 1.107 and later put agent and conversation on every span",
        ),
        Remedy('Agent.run(..., metadata={"user_id": ...})', ("user.id",), "the agent's span lends it to the others"),
    ),
)
