"""LangSmith's OpenTelemetry export (LangChain, LangGraph): every attribute is a text, inputs and outputs are JSON.

Exceptions are always of type ``Exception``, the real one stands in the message. ``langsmith.trace.session_name`` is a project.
"""

from __future__ import annotations

from otel_ir.normalize.table import Dialect, On, Remedy, Unwrap

_METADATA = "langsmith.metadata."

DIALECT = Dialect(
    name="langsmith",
    about="LangSmith OpenTelemetry export of LangChain and LangGraph; content is captured by default.",
    scopes=("langsmith",),
    markers=("langsmith.span.kind",),
    classify=(
        ("tool_call", "langsmith.span.kind=tool"),
        ("model_output", "langsmith.span.kind=llm"),
        ("retrieval", "langsmith.span.kind=retriever"),
    ),
    unwrap=(
        Unwrap("gen_ai.prompt", "only input", ("input",), needs=r'^\s*\{\s*"input"', event="tool_call"),
        Unwrap("gen_ai.completion", "traceloop output", ("content", "id", "error"), needs=r'^\s*\{\s*"output"', event="tool_call"),
    ),
    columns={
        "gen_ai.agent.name": (f"{_METADATA}lc_agent_name", "gen_ai.agent.name"),
        "gen_ai.conversation.id": (
            "gen_ai.conversation.id",
            f"{_METADATA}session_id",
            f"{_METADATA}thread_id",
            f"{_METADATA}conversation_id",
            "session.id",
        ),
        "user.id": ("user.id", "enduser.id", f"{_METADATA}user_id"),
        "gen_ai.tool.name": ("gen_ai.tool.name", On("tool_call", "@name")),
        "gen_ai.tool.call.id": ("gen_ai.tool.call.id", "gen_ai.completion#id"),
        "gen_ai.tool.call.arguments": (
            "gen_ai.tool.call.arguments",
            On("tool_call", "gen_ai.prompt#input"),
            On("tool_call", "gen_ai.prompt"),
        ),
        "gen_ai.tool.call.result": (
            "gen_ai.tool.call.result",
            On("tool_call", "gen_ai.completion#content"),
            On("tool_call", "gen_ai.completion"),
        ),
        "error": ("gen_ai.completion#error",),
        "gen_ai.provider.name": ("gen_ai.provider.name", f"{_METADATA}ls_provider", "gen_ai.system"),
        "gen_ai.request.model": ("gen_ai.request.model", f"{_METADATA}ls_model_name"),
        "gen_ai.input.messages": ("gen_ai.input.messages", On("model_output", "gen_ai.prompt")),
        "gen_ai.output.messages": ("gen_ai.output.messages", On("model_output", "gen_ai.completion")),
    },
    bogus={"gen_ai.tool.call.result": ("{}",)},
    not_errors=(r"GraphInterrupt\b", r"ParentCommand\b", r"ModelRetry\b"),
    messages="langchain",
    rejected=(r"^User rejected the tool call\b",),
    remedies=(
        Remedy(
            'config={"metadata": {"session_id": ..., "user_id": ...}}',
            ("gen_ai.conversation.id", "user.id"),
            "of the run; of a traceable: langsmith_extra",
        ),
        Remedy("create_agent(name=...)", ("gen_ai.agent.name",)),
    ),
)
