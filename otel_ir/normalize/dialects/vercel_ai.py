"""The Vercel AI SDK, versions 4 to 6 and the legacy mode of 7 (``ai.*`` attributes), and the modern mode of 7 (the GenAI conventions).

Who calls is what the application passed: ``functionId`` and the metadata (to 6) or context (7) of its telemetry settings. The modern mode
puts the context on agents and steps, not on tools. A tool's span is made around its execution: a call that waits for an approval, or that
somebody refused, has none.
"""

from __future__ import annotations

from otel_ir.normalize.dialects.otel_genai import DIALECT as GENAI
from otel_ir.normalize.table import CONTENT, Dialect, On, Remedy

_METADATA, _CONTEXT = "ai.telemetry.metadata.", "ai.settings.context."
_OUTER = "ai.generateText|ai.streamText|ai.generateObject|ai.streamObject"
_CONVERSATION = tuple(
    f"{place}{name}"
    for name in (
        "sessionId", "threadId", "conversationId", "chatId", "session_id", "thread_id", "conversation_id", "chat_id",
    )
    for place in (_METADATA, _CONTEXT)
)  # fmt: skip
_USER = tuple(f"{place}{name}" for name in ("userId", "user_id") for place in (_METADATA, _CONTEXT))
_AGENT = tuple(f"{place}{name}" for name in ("agentName", "agent_name") for place in (_METADATA, _CONTEXT))
_WHO = ("gen_ai.agent.name", "gen_ai.conversation.id", "user.id")

DIALECT = Dialect(
    name="vercel_ai",
    about="Vercel AI SDK 4 to 6 and the legacy mode of 7; content is captured by default, identity is what the application passes.",
    scopes=("ai",),
    markers=("ai.operationId",),
    classify=(
        ("tool_call", "ai.operationId=ai.toolCall"),
        ("model_output", "ai.operationId$=.doGenerate"),
        ("model_output", "ai.operationId$=.doStream"),
        ("agent_invocation", f"ai.operationId={_OUTER}"),
    ),
    columns={
        "gen_ai.agent.name": ("gen_ai.agent.name", "ai.telemetry.functionId", *_AGENT),
        "gen_ai.conversation.id": ("gen_ai.conversation.id", *_CONVERSATION, "session.id"),
        "user.id": ("user.id", "enduser.id", *_USER),
        "gen_ai.tool.name": ("gen_ai.tool.name", "ai.toolCall.name"),
        "gen_ai.tool.call.id": ("gen_ai.tool.call.id", "ai.toolCall.id"),
        "gen_ai.tool.call.arguments": ("gen_ai.tool.call.arguments", "ai.toolCall.args", "ai.toolCall.input"),
        "gen_ai.tool.call.result": ("gen_ai.tool.call.result", "ai.toolCall.result", "ai.toolCall.output"),
        "gen_ai.provider.name": ("gen_ai.provider.name", "gen_ai.system", "ai.model.provider"),
        "gen_ai.request.model": ("gen_ai.request.model", "ai.model.id"),
        "gen_ai.response.model": ("gen_ai.response.model", "ai.response.model"),
        "gen_ai.response.id": ("gen_ai.response.id", "ai.response.id"),
        "gen_ai.usage.input_tokens": ("gen_ai.usage.input_tokens", "ai.usage.inputTokens", "ai.usage.promptTokens"),
        "gen_ai.usage.output_tokens": ("gen_ai.usage.output_tokens", "ai.usage.outputTokens", "ai.usage.completionTokens"),
        "gen_ai.input.messages": ("gen_ai.input.messages", On("model_output", "ai.prompt.messages"), On("model_output", "ai.prompt")),
        "gen_ai.output.messages": (
            "gen_ai.output.messages",
            On("model_output", "ai.response.toolCalls"),
            On("model_output", "ai.response.text"),
            On("model_output", "ai.response.object"),
        ),
    },
    bogus={"gen_ai.output.messages": ("",)},
    executed="yes",
    unproven="yes",
    messages="vercel",
    rejected=(r'^\{"type":"execution-denied"',),
    remedies=(
        Remedy(
            "experimental_telemetry: {recordInputs: true, recordOutputs: true}",
            CONTENT,
            "both are on by default; AI SDK 7 calls it telemetry",
        ),
        Remedy("experimental_telemetry: {functionId: ...}", _WHO[:1], "of the call; AI SDK 7 calls it telemetry"),
        Remedy("experimental_telemetry: {metadata: {sessionId, userId}}", _WHO[1:], "AI SDK 4 to 6; in AI SDK 7 it is runtimeContext"),
    ),
)
MODERN = GENAI.but(
    name="vercel_ai7",
    about="Vercel AI SDK 7, modern mode (OpenTelemetry of @ai-sdk/otel); content is captured by default, the context is not.",
    scopes=("gen_ai", "@ai-sdk/otel"),
    columns={
        "gen_ai.agent.name": ("gen_ai.agent.name", *_AGENT),
        "gen_ai.conversation.id": ("gen_ai.conversation.id", *_CONVERSATION, "session.id"),
        "user.id": ("user.id", "enduser.id", *_USER),
    },
    executed="yes",
    unproven="yes",
    rejected=(r'^\{"denied":true(?:,"reason":"(?:[^"\\]|\\.)*")?\}$',),
    remedies=(
        Remedy(
            "new OpenTelemetry({ runtimeContext: true })",
            _WHO[1:],
            "with runtimeContext: { sessionId, userId } and telemetry.includeRuntimeContext of the call",
        ),
        Remedy("telemetry: { functionId }", _WHO[:1], "it is read as the agent's name"),
        Remedy("telemetry: { recordInputs: true, recordOutputs: true }", CONTENT, "both are on by default"),
    ),
)
