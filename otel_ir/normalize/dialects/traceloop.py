"""OpenLLMetry (Traceloop): 0.40 with ``gen_ai.prompt.N`` and ``gen_ai.completion.N``, to 0.62 with the names of the GenAI conventions.

Content is on by default (``TRACELOOP_TRACE_CONTENT``). Workflow and task spans are structure, though newer versions call some of them
``invoke_agent``; ``gen_ai.agent.id`` is the id of one run.
"""

from __future__ import annotations

from otel_ir.normalize.table import Dialect, On, Unwrap

_ASSOCIATED = "traceloop.association.properties."

DIALECT = Dialect(
    name="traceloop",
    about="OpenLLMetry (Traceloop) 0.40 to 0.62, all instrumentations; content is captured by default.",
    scopes=(
        "traceloop.*",
        "@traceloop/*",
        "opentelemetry.instrumentation.openai.v0",
        "opentelemetry.instrumentation.openai.v1",
        "opentelemetry.instrumentation.openai_agents",
        "opentelemetry.instrumentation.agno",
        "opentelemetry.instrumentation.alephalpha",
        "opentelemetry.instrumentation.anthropic",
        "opentelemetry.instrumentation.bedrock",
        "opentelemetry.instrumentation.cohere",
        "opentelemetry.instrumentation.google_generativeai",
        "opentelemetry.instrumentation.groq",
        "opentelemetry.instrumentation.haystack",
        "opentelemetry.instrumentation.llamaindex",
        "opentelemetry.instrumentation.mistralai",
        "opentelemetry.instrumentation.ollama",
        "opentelemetry.instrumentation.replicate",
        "opentelemetry.instrumentation.sagemaker",
        "opentelemetry.instrumentation.together",
        "opentelemetry.instrumentation.transformers",
        "opentelemetry.instrumentation.vertexai",
        "opentelemetry.instrumentation.watsonx",
        "opentelemetry.instrumentation.writer",
    ),
    markers=("traceloop.span.kind", "traceloop.entity.name", "llm.request.type"),
    classify=(
        ("handoff", "gen_ai.operation.name=handoff"),
        ("handoff", "traceloop.span.kind=handoff"),
        ("tool_call", "traceloop.span.kind=tool"),
        ("none", "traceloop.span.kind=workflow|task|session"),
        ("tool_call", "gen_ai.operation.name=execute_tool"),
        ("agent_invocation", "traceloop.span.kind=agent"),
        ("model_output", "gen_ai.operation.name=chat|generate_content|text_completion|completion|responses|response|inference"),
        ("agent_invocation", "gen_ai.operation.name=invoke_agent|create_agent"),
        ("retrieval", "gen_ai.operation.name=retrieval|vector_db_retrieve"),
        ("guardrail", "gen_ai.operation.name=run_guardrail|guardrail_check"),
        ("model_output", "llm.request.type=chat|completion"),
    ),
    unwrap=(
        Unwrap(
            "gen_ai.tool.call.arguments",
            "traceloop input",
            ("arguments", "id", "agent", "conversation", "user"),
            needs=r'"(?:input_str|tool_name)"',
            event="tool_call",
        ),
        Unwrap(
            "traceloop.entity.input",
            "traceloop input",
            ("arguments", "id", "agent", "conversation", "user"),
            needs=r'"(?:input_str|tool_name)"',
            event="tool_call",
        ),
        Unwrap(
            "gen_ai.tool.call.result",
            "traceloop output",
            ("content", "id", "error"),
            needs=r'(?s)^\s*\{.*"(?:output|is_error|tool_call_id)"',
            event="tool_call",
        ),
        Unwrap(
            "traceloop.entity.output",
            "traceloop output",
            ("content", "id", "error"),
            needs=r'(?s)^\s*\{.*"(?:output|is_error|tool_call_id)"',
            event="tool_call",
        ),
    ),
    columns={
        "gen_ai.agent.name": (
            f"{_ASSOCIATED}lc_agent_name",
            "gen_ai.agent.name",
            "crewai.agent.role",
            On("agent_invocation", "traceloop.entity.name"),
            "traceloop.entity.input#agent",
        ),
        "gen_ai.conversation.id": (
            "gen_ai.conversation.id",
            f"{_ASSOCIATED}session_id",
            f"{_ASSOCIATED}thread_id",
            f"{_ASSOCIATED}conversation_id",
            "session.id",
            "traceloop.entity.input#conversation",
        ),
        "user.id": ("user.id", "enduser.id", f"{_ASSOCIATED}user_id", "traceloop.entity.input#user"),
        "gen_ai.tool.name": ("gen_ai.tool.name", On("tool_call", "traceloop.entity.name")),
        "gen_ai.tool.call.id": (
            "gen_ai.tool.call.id",
            "traceloop.entity.output#id",
            "traceloop.entity.input#id",
            "gen_ai.tool.call.result#id",
            "gen_ai.tool.call.arguments#id",
        ),
        "gen_ai.tool.call.arguments": (
            On("tool_call", "gen_ai.tool.call.arguments#arguments"),
            "gen_ai.tool.call.arguments",
            On("tool_call", "traceloop.entity.input#arguments"),
            On("tool_call", "traceloop.entity.input"),
        ),
        "gen_ai.tool.call.result": (
            On("tool_call", "gen_ai.tool.call.result#content"),
            "gen_ai.tool.call.result",
            On("tool_call", "traceloop.entity.output#content"),
            On("tool_call", "traceloop.entity.output"),
        ),
        "error": ("traceloop.entity.output#error", "gen_ai.tool.call.result#error"),
        "gen_ai.provider.name": ("gen_ai.provider.name", "gen_ai.system"),
        "gen_ai.usage.input_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
        "gen_ai.usage.output_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
        "gen_ai.input.messages": ("gen_ai.input.messages", "@input_messages", On("model_output", "traceloop.entity.input")),
        "gen_ai.output.messages": ("gen_ai.output.messages", "@output_messages", On("model_output", "traceloop.entity.output")),
        "otel_ir.handoff.from": ("gen_ai.handoff.from_agent",),
        "otel_ir.handoff.to": ("gen_ai.handoff.to_agent",),
        "otel_ir.guardrail.name": ("gen_ai.guardrail.name",),
        "otel_ir.guardrail.triggered": ("gen_ai.guardrail.triggered",),
    },
    bogus={"otel_ir.handoff.to": ("unknown",), "otel_ir.handoff.from": ("unknown",), "gen_ai.tool.call.id": ("", "<not specified>")},
    ignored=("gen_ai.agent.id",),
    not_errors=(r"GraphInterrupt\b", r"ModelRetry\b", r"GuardrailTripwireTriggered\b"),
    messages="flat or genai",
    rejected=(r"^User rejected the tool call\b",),
)
