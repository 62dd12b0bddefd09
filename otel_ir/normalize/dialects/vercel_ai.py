"""The Vercel AI SDK, versions 4 and 5 and the legacy mode of 7 (``ai.*`` attributes); the modern mode of 7 speaks the GenAI conventions.

Who calls is what the application passed: ``functionId`` and the metadata (5) or context (7) of ``experimental_telemetry``.
"""

from __future__ import annotations

from otel_ir.normalize.table import Dialect, On, Remedy

_METADATA, _CONTEXT = "ai.telemetry.metadata.", "ai.settings.context."
_OUTER = "ai.generateText|ai.streamText|ai.generateObject|ai.streamObject"
_CONVERSATION = ("sessionId", "threadId", "conversationId", "chatId")

DIALECT = Dialect(
    name="vercel_ai",
    about="Vercel AI SDK 4, 5 and the legacy mode of 7; content is captured by default, identity is what the application passes.",
    scopes=("ai",),
    markers=("ai.operationId",),
    classify=(
        ("tool_call", "ai.operationId=ai.toolCall"),
        ("model_output", "ai.operationId$=.doGenerate"),
        ("model_output", "ai.operationId$=.doStream"),
        ("agent_invocation", f"ai.operationId={_OUTER}"),
    ),
    columns={
        "gen_ai.agent.name": ("gen_ai.agent.name", "ai.telemetry.functionId"),
        "gen_ai.conversation.id": (
            "gen_ai.conversation.id",
            *(f"{place}{name}" for name in _CONVERSATION for place in (_METADATA, _CONTEXT)),
            "session.id",
        ),
        "user.id": ("user.id", "enduser.id", f"{_METADATA}userId", f"{_CONTEXT}userId"),
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
    messages="vercel",
    remedies=(
        Remedy(
            "experimental_telemetry: {recordInputs: true, recordOutputs: true}",
            ("gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "gen_ai.input.messages", "gen_ai.output.messages"),
            "both are on by default; 7 calls it telemetry",
        ),
        Remedy("experimental_telemetry: {functionId: ...}", ("gen_ai.agent.name",), "of the call; 7 calls it telemetry"),
        Remedy(
            "experimental_telemetry: {metadata: {sessionId, userId}}", ("gen_ai.conversation.id", "user.id"), "4 and 5; 7: runtimeContext"
        ),
    ),
)
