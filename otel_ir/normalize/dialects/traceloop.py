"""OpenLLMetry (Traceloop): 0.40 with ``gen_ai.prompt.N`` and ``gen_ai.completion.N``, to 0.62 with the names of the GenAI conventions.

Content is on by default (``TRACELOOP_TRACE_CONTENT``). Workflow and task spans are structure, though newer versions call some of them
``invoke_agent``; ``gen_ai.agent.id`` is the id of one run.
"""

from __future__ import annotations

from otel_ir.normalize.dialects.otel_genai import DIALECT as GENAI
from otel_ir.normalize.table import CONTENT, Dialect, On, Remedy, Unwrap

_ASSOCIATED = "traceloop.association.properties."
ASSOCIATED = Remedy(
    'Traceloop.set_association_properties({"session_id": ..., "user_id": ...})',
    ("gen_ai.conversation.id", "user.id"),
    "before the run of the agent; needs traceloop-sdk",
)
_KINDS = ("gen_ai.operation.name", "traceloop.span.kind", "llm.request.type")
_CALLS = ("tool_call", "handoff")
_INPUTS, _INPUT = (
    ("gen_ai.tool.call.arguments", "traceloop.entity.input"),
    ("arguments", "id", "agent", "conversation", "user", "to", "tool"),
)
_OUTPUTS, _OUTPUT = ("gen_ai.tool.call.result", "traceloop.entity.output"), ("content", "id", "error", "failure")
_AGENT = (f"{_ASSOCIATED}lc_agent_name", "gen_ai.agent.name", "crewai.agent.role", "traceloop.entity.input#agent")


def _on(events: tuple[str, ...], *sources: str) -> tuple[On, ...]:
    return tuple(On(event, source) for source in sources for event in events)


DIALECT = Dialect(
    name="traceloop",
    about="OpenLLMetry (Traceloop) 0.40 to 0.62, all instrumentations; content is captured by default.",
    scopes=(
        "traceloop.*",
        "@traceloop/*",
        "opentelemetry.instrumentation.openai.v0",
        "opentelemetry.instrumentation.openai.v1",
        "opentelemetry.instrumentation.openai_agents",
        "opentelemetry.instrumentation.alephalpha",
        "opentelemetry.instrumentation.anthropic",
        "opentelemetry.instrumentation.bedrock",
        "opentelemetry.instrumentation.cohere",
        "opentelemetry.instrumentation.google_generativeai",
        "opentelemetry.instrumentation.groq",
        "opentelemetry.instrumentation.haystack",
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
        # openai-agents before 0.44: a span for each tool that an agent has; and its agent span is one call of the model
        ("none", "traceloop.span.kind=tool", "gen_ai.completion.tool.type", "!gen_ai.tool.name", "!traceloop.entity.input"),
        ("model_output", "traceloop.span.kind=agent", "openai.agent.model", "gen_ai.usage.prompt_tokens"),
        ("handoff", "traceloop.span.kind=tool", f"{_ASSOCIATED}__handoff_destination"),
        ("handoff", "traceloop.span.kind=tool", "traceloop.entity.name^=transfer_to_"),
        ("tool_call", "traceloop.span.kind=tool"),
        ("retrieval", "gen_ai.operation.name=retrieval|vector_db_retrieve"),
        ("none", "traceloop.span.kind=workflow|task|session"),
        ("tool_call", "gen_ai.operation.name=execute_tool"),
        ("agent_invocation", "traceloop.span.kind=agent"),
        ("model_output", "gen_ai.operation.name=chat|generate_content|text_completion|completion|responses|response|inference"),
        ("agent_invocation", "gen_ai.operation.name=invoke_agent|create_agent"),
        ("guardrail", "gen_ai.operation.name=run_guardrail|guardrail_check"),
        ("model_output", "llm.request.type=chat|completion|response"),
        ("model_output", *(f"!{key}" for key in _KINDS), "gen_ai.system", "gen_ai.request.model"),
    ),
    unwrap=(
        *(
            Unwrap(source, "traceloop input", _INPUT, needs=r'"(?:input_str|tool_name)"', event=event)
            for source in _INPUTS
            for event in _CALLS
        ),
        *(
            Unwrap(source, "traceloop output", _OUTPUT, needs=r'(?s)^\s*\{.*"(?:output|is_error|tool_call_id)"', event=event)
            for source in _OUTPUTS
            for event in _CALLS
        ),
        Unwrap("traceloop.entity.name", "after 'transfer_to_'", ("rest",), event="handoff"),
    ),
    columns={
        "gen_ai.agent.name": (*_AGENT[:3], On("agent_invocation", "traceloop.entity.name"), *_AGENT[3:]),
        "gen_ai.conversation.id": (
            "gen_ai.conversation.id",
            f"{_ASSOCIATED}session_id",
            f"{_ASSOCIATED}thread_id",
            f"{_ASSOCIATED}conversation_id",
            "session.id",
            "openai.agent.group_id",
            "traceloop.entity.input#conversation",
        ),
        "user.id": ("user.id", "enduser.id", f"{_ASSOCIATED}user_id", "traceloop.entity.input#user"),
        "gen_ai.tool.name": (
            "gen_ai.tool.name",
            *_on(_CALLS, "traceloop.entity.name", "gen_ai.completion.tool.name"),
        ),
        "gen_ai.tool.call.id": (
            "gen_ai.tool.call.id",
            "traceloop.entity.output#id",
            "traceloop.entity.input#id",
            "gen_ai.tool.call.result#id",
            "gen_ai.tool.call.arguments#id",
        ),
        "gen_ai.tool.call.arguments": (
            *_on(_CALLS, "gen_ai.tool.call.arguments#arguments"),
            "gen_ai.tool.call.arguments",
            *_on(_CALLS, "traceloop.entity.input#arguments", "traceloop.entity.input"),
        ),
        "gen_ai.tool.call.result": (
            *_on(_CALLS, "gen_ai.tool.call.result#content"),
            "gen_ai.tool.call.result",
            *_on(_CALLS, "traceloop.entity.output#content", "traceloop.entity.output"),
        ),
        "error": ("traceloop.entity.output#error", "gen_ai.tool.call.result#error"),
        "error.message": ("traceloop.entity.output#failure", "gen_ai.tool.call.result#failure"),
        "gen_ai.provider.name": ("gen_ai.provider.name", "gen_ai.system"),
        "gen_ai.usage.input_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
        "gen_ai.usage.output_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
        "gen_ai.input.messages": ("gen_ai.input.messages", "@input_messages", On("model_output", "traceloop.entity.input")),
        "gen_ai.output.messages": ("gen_ai.output.messages", "@output_messages", On("model_output", "traceloop.entity.output")),
        "otel_ir.handoff.from": ("gen_ai.handoff.from_agent", *_on(("handoff",), *_AGENT)),
        "otel_ir.handoff.to": (
            "gen_ai.handoff.to_agent",
            *_on(("handoff",), f"{_ASSOCIATED}__handoff_destination", "traceloop.entity.input#to", "traceloop.entity.name#rest"),
        ),
        "otel_ir.guardrail.name": ("gen_ai.guardrail.name",),
        "otel_ir.guardrail.triggered": ("gen_ai.guardrail.triggered",),
    },
    bogus={
        "gen_ai.agent.name": ("", "unknown_agent"),
        "otel_ir.handoff.to": ("unknown",),
        "otel_ir.handoff.from": ("unknown",),
        "gen_ai.tool.call.id": ("", "<not specified>"),
    },
    ignored=("gen_ai.agent.id",),
    not_errors=(*GENAI.not_errors, r"ParentCommand\b"),
    messages="flat or genai",
    rejected=GENAI.rejected,
    remedies=(
        Remedy("TRACELOOP_TRACE_CONTENT=true", CONTENT, "content is on by default"),
        ASSOCIATED,
    ),
)
