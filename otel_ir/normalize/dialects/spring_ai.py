"""Spring AI 1 and 2 (Micrometer observations). Tool arguments and results are opt-in, the conversation stands on the chat client's span.

1 gives no call ids, and tools of a streamed answer are traces of their own. An observation is made around the execution of a tool.
"""

from __future__ import annotations

from otel_ir.normalize.table import Dialect, On, Remedy

DIALECT = Dialect(
    name="spring_ai",
    about="Spring AI: tool arguments and results are opt-in (spring.ai.tools.observations.include-content).",
    scopes=("org.springframework.boot",),
    markers=("spring.ai.kind",),
    classify=(
        ("tool_call", "spring.ai.kind=tool_call"),
        ("none", "spring.ai.kind=chat_client|advisor"),
        ("retrieval", "spring.ai.kind=vector_store", "db.operation.name=query"),
        ("model_output", "gen_ai.operation.name=chat|generate_content|text_completion"),
    ),
    columns={
        "gen_ai.conversation.id": ("gen_ai.conversation.id", "spring.ai.chat.client.conversation.id", "session.id"),
        "user.id": ("user.id", "enduser.id"),
        "gen_ai.tool.name": ("gen_ai.tool.name", "spring.ai.tool.definition.name"),
        "gen_ai.tool.call.id": ("gen_ai.tool.call.id", "spring.ai.tool.call.id"),
        "gen_ai.tool.call.arguments": ("gen_ai.tool.call.arguments", "spring.ai.tool.call.arguments"),
        "gen_ai.tool.call.result": ("gen_ai.tool.call.result", "spring.ai.tool.call.result"),
        "gen_ai.provider.name": ("gen_ai.provider.name", "gen_ai.system"),
        "gen_ai.input.messages": ("gen_ai.input.messages", On("model_output", "gen_ai.prompt")),
        "gen_ai.output.messages": ("gen_ai.output.messages", On("model_output", "gen_ai.completion")),
    },
    bogus={"gen_ai.conversation.id": ("default",), "gen_ai.tool.call.id": ("none", "")},
    messages="genai",
    executed="yes",
    unproven="yes",
    remedies=(
        Remedy(
            "spring.ai.tools.observations.include-content=true", ("gen_ai.tool.call.arguments", "gen_ai.tool.call.result"), "off by default"
        ),
        Remedy("spring.ai.tools.throw-exception-on-error=true", ("error.message",), "else the text of an exception is the tool's result"),
        Remedy("ChatMemory.CONVERSATION_ID", ("gen_ai.conversation.id",), "advisors(a -> a.param(ChatMemory.CONVERSATION_ID, ...))"),
        Remedy("Spring AI 2.0", ("gen_ai.tool.call.id",), "or later"),
    ),
)
