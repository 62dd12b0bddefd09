"""OpenInference (Arize Phoenix and others). openinference-semantic-conventions 0.1.42; content is on by default, success is status OK."""

from __future__ import annotations

from otel_ir.normalize.table import Dialect, On, Remedy, Unwrap

DIALECT = Dialect(
    name="openinference",
    about="OpenInference: LangChain and LangGraph, OpenAI, Anthropic, Google ADK, Agno and others; content is captured by default.",
    scopes=("openinference.instrumentation.*", "@arizeai/openinference-*"),
    classify=(
        ("handoff", "openinference.span.kind=TOOL", "@name^=handoff to "),
        ("tool_call", "openinference.span.kind=TOOL"),
        ("model_output", "openinference.span.kind=LLM"),
        ("agent_invocation", "openinference.span.kind=AGENT"),
        ("retrieval", "openinference.span.kind=RETRIEVER"),
        ("guardrail", "openinference.span.kind=GUARDRAIL"),
    ),
    unwrap=(
        Unwrap(
            "metadata",
            "members",
            ("lc_agent_name", "user_id", "session_id", "thread_id"),
            needs=r'"(?:lc_agent_name|user_id|session_id|thread_id)"',
        ),
        Unwrap("input.value", "keyword call", ("kwargs",), needs=r'(?s)^\s*\{.*"kwargs"', event="tool_call"),
        Unwrap("input.value", "python literal", ("value",), needs=r"^\s*(?:\{\s*['\d(]|\[\s*(?:'|\{\s*'|\())", event="tool_call"),
        Unwrap("output.value", "tool message", ("content", "id", "error"), needs=r'"tool_call_id"', event="tool_call"),
        Unwrap(
            "output.value", "tool output", ("raw_output", "id", "error"), needs=r'(?s)^\s*\{.*"(?:raw_output|response)"', event="tool_call"
        ),
        Unwrap("@name", "after 'handoff to '", ("rest",), event="handoff"),
        Unwrap("output.value", "answer", ("answer",), needs=r'^\{"id": ?"msg_', event="model_output"),
    ),
    columns={
        "gen_ai.agent.name": ("gen_ai.agent.name", On("agent_invocation", "agent.name"), "metadata#lc_agent_name"),
        "gen_ai.agent.id": ("gen_ai.agent.id", On("agent_invocation", "agno.agent.id")),
        "gen_ai.conversation.id": ("gen_ai.conversation.id", "session.id", "metadata#session_id", "metadata#thread_id"),
        "user.id": ("user.id", "enduser.id", "metadata#user_id"),
        "gen_ai.tool.name": ("gen_ai.tool.name", On("tool_call", "tool.name"), On("tool_call", "@name")),
        "gen_ai.tool.call.id": (
            "gen_ai.tool.call.id",
            On("tool_call", "tool.id"),
            On("tool_call", "output.value#id"),
        ),
        "gen_ai.tool.call.arguments": (
            "gen_ai.tool.call.arguments",
            On("tool_call", "input.value#kwargs"),
            On("tool_call", "input.value#value"),
            On("tool_call", "input.value"),
        ),
        # OPENINFERENCE_ENABLE_GENAI_SEMCONV copies output.value, wrapper and all, to the GenAI attribute.
        "gen_ai.tool.call.result": (
            On("tool_call", "output.value#content"),
            On("tool_call", "output.value#raw_output"),
            "gen_ai.tool.call.result",
            On("tool_call", "output.value"),
        ),
        "error": ("output.value#error",),
        "gen_ai.provider.name": ("gen_ai.provider.name", "llm.provider", "llm.system"),
        # Anthropic's client tells of its calls itself; they are known by the id of the answer.
        "gen_ai.response.id": ("gen_ai.response.id", On("model_output", "output.value#answer")),
        "gen_ai.request.model": ("gen_ai.request.model", "embedding.model_name"),
        "gen_ai.response.model": ("gen_ai.response.model", "llm.model_name"),
        "gen_ai.usage.input_tokens": ("gen_ai.usage.input_tokens", "llm.token_count.prompt"),
        "gen_ai.usage.output_tokens": ("gen_ai.usage.output_tokens", "llm.token_count.completion"),
        "gen_ai.input.messages": ("gen_ai.input.messages", "@input_messages", On("model_output", "input.value")),
        "gen_ai.output.messages": ("gen_ai.output.messages", "@output_messages", On("model_output", "output.value")),
        "otel_ir.handoff.from": (On("handoff", "input.value"),),
        "otel_ir.handoff.to": (On("handoff", "output.value"), On("handoff", "@name#rest")),
        "otel_ir.guardrail.name": (On("guardrail", "@name"),),
    },
    # Hidden arguments are absent ones, which a message may still tell; a hidden result says that there was one.
    bogus={
        "gen_ai.response.model": ("unknown",),
        "gen_ai.tool.call.id": ("<not specified>",),
        "gen_ai.tool.call.arguments": ("__REDACTED__",),
    },
    not_errors=(r"GraphInterrupt\b", r"^Interrupt\b", r"^Abandoned\b", r"ModelRetry\b", r"GuardrailTripwireTriggered\b"),
    messages="openinference",
    # Who instruments a framework and the client it uses gets a span of each, one in the other.
    nested=True,
    rejected=(r"^User rejected the tool call\b",),
    remedies=(
        Remedy("OPENINFERENCE_HIDE_INPUTS=false", ("gen_ai.tool.call.arguments", "gen_ai.input.messages"), "content is on by default"),
        Remedy("OPENINFERENCE_HIDE_OUTPUTS=false", ("gen_ai.tool.call.result", "gen_ai.output.messages"), "content is on by default"),
        Remedy("using_attributes(session_id=..., user_id=...)", ("gen_ai.conversation.id", "user.id"), "around the run of the agent"),
        Remedy('using_attributes(metadata={"lc_agent_name": ...})', ("gen_ai.agent.name",), "where no span names the agent"),
    ),
)

MANUAL = DIALECT.but(
    name="openinference.manual",
    about="OpenInference by hand, with its decorators or attributes: the agent is the name of its AGENT span.",
    scopes=(),
    markers=("openinference.span.kind",),
    columns={"gen_ai.agent.name": (*DIALECT.columns["gen_ai.agent.name"], On("agent_invocation", "@name"))},
)
