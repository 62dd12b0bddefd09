"""The OpenTelemetry GenAI semantic conventions, 1.26 to 1.42 and the drafts that followed; what every unknown emitter is read with.

History (CHANGELOG of semantic-conventions): 1.28 renamed prompt/completion tokens, 1.31 brought agents and tools, 1.34
``gen_ai.conversation.id``, 1.37 ``gen_ai.provider.name`` for ``gen_ai.system`` and messages as JSON attributes or as one log event,
1.38 the arguments and the result of a tool call. Arguments and results are opt-in: most emitters send neither by default.
"""

from __future__ import annotations

from otel_ir.normalize.table import CONTENT, Dialect, On, Remedy, Unwrap

DIALECT = Dialect(
    name="otel_genai",
    about="OpenTelemetry GenAI semantic conventions 1.26 to 1.42, and what follows them; no content by default.",
    scopes=(
        "opentelemetry.instrumentation.genai.*",
        "opentelemetry.util.genai*",
        "opentelemetry.instrumentation.openai_v2",
        "opentelemetry.instrumentation.google_genai",
        "opentelemetry.instrumentation.weaviate",
    ),
    classify=(
        ("handoff", "gen_ai.operation.name=handoff|agent_handoff"),
        ("tool_call", "gen_ai.operation.name=execute_tool"),
        ("model_output", "gen_ai.operation.name=chat|generate_content|text_completion|completion|responses|response|inference"),
        ("agent_invocation", "gen_ai.operation.name=invoke_agent|create_agent"),
        ("retrieval", "gen_ai.operation.name=retrieval|vector_db_retrieve"),
        ("guardrail", "gen_ai.operation.name=run_guardrail|guardrail_check"),
        ("model_output", "!gen_ai.operation.name", "gen_ai.system", "gen_ai.request.model"),
    ),
    classify_logs=(("model_output", "@event=gen_ai.client.inference.operation.details"),),
    unwrap=(
        Unwrap(
            "gen_ai.tool.call.arguments", "python literal", ("value",), needs=r"^\s*(?:\{\s*['\d(]|\[\s*(?:'|\{\s*'|\())", event="tool_call"
        ),
        Unwrap("gen_ai.guardrail.verdict.type", "verdict", ("triggered",), event="guardrail"),
    ),
    columns={
        "gen_ai.conversation.id": ("gen_ai.conversation.id", "session.id"),
        "user.id": ("user.id", "enduser.id", "gen_ai.user"),
        "gen_ai.tool.call.arguments": (On("tool_call", "gen_ai.tool.call.arguments#value"), "gen_ai.tool.call.arguments"),
        "gen_ai.provider.name": ("gen_ai.provider.name", "gen_ai.system"),
        "gen_ai.usage.input_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
        "gen_ai.usage.output_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
        "gen_ai.input.messages": ("gen_ai.input.messages", "gen_ai.prompt", "event:gen_ai.content.prompt/gen_ai.prompt"),
        "gen_ai.output.messages": ("gen_ai.output.messages", "gen_ai.completion", "event:gen_ai.content.completion/gen_ai.completion"),
        "otel_ir.handoff.from": ("gen_ai.handoff.from_agent",),
        "otel_ir.handoff.to": ("gen_ai.handoff.to_agent",),
        "otel_ir.guardrail.name": ("gen_ai.guardrail.name", "gen_ai.guardrail.component.name"),
        "otel_ir.guardrail.triggered": ("gen_ai.guardrail.triggered", "gen_ai.guardrail.verdict.type#triggered"),
    },
    bogus={"gen_ai.tool.call.id": ("<not specified>",)},
    not_errors=(r"GraphInterrupt\b", r"ModelRetry\b", r"GuardrailTripwireTriggered\b"),
    messages="genai",
    rejected=(r"^User rejected the tool call\b", r"^Tool execution was not approved\."),
    remedies=(
        Remedy(
            "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_ONLY",
            CONTENT,
            "or SPAN_AND_EVENT; instrumentations of conventions up to 1.36 know only true, and put content in log records",
        ),
        Remedy(
            "OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental",
            CONTENT,
            "where the instrumentation is older than util-genai 1.0",
        ),
    ),
)
