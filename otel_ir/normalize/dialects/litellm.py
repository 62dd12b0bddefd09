"""LiteLLM, SDK and proxy: model calls only; the calls stand in ``gen_ai.completion.N.function_call`` and have no id there.

Most ``metadata.*`` attributes are empty. Behind a proxy every agent has the proxy's service name; its key alias tells them apart.
"""

from __future__ import annotations

from otel_ir.normalize.table import Dialect, Remedy

DIALECT = Dialect(
    name="litellm",
    about="LiteLLM SDK and proxy: no tool spans, and no results; the proxy's key alias is taken for the agent.",
    scopes=("litellm", "litellm.*"),
    classify=(
        ("none", "@name=raw_gen_ai_request"),
        ("tool_call", "gen_ai.operation.name=execute_tool"),
        ("model_output", "gen_ai.operation.name=chat|text_completion|completion|generate_content|responses|acompletion|aresponses"),
        ("model_output", "@name=litellm_request"),
        ("guardrail", "openinference.span.kind=guardrail|GUARDRAIL"),
    ),
    columns={
        "gen_ai.agent.name": ("gen_ai.agent.name", "metadata.user_api_key_alias"),
        "gen_ai.conversation.id": ("gen_ai.conversation.id", "session.id", "metadata.session_id", "metadata.litellm_session_id"),
        "user.id": ("user.id", "enduser.id", "llm.user", "gen_ai.user", "metadata.user_api_key_end_user_id"),
        "gen_ai.provider.name": ("gen_ai.provider.name", "gen_ai.system"),
        "gen_ai.usage.input_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
        "gen_ai.usage.output_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
        "gen_ai.input.messages": ("gen_ai.input.messages", "@input_messages"),
        "gen_ai.output.messages": ("gen_ai.output.messages", "@output_messages"),
        "otel_ir.guardrail.name": ("guardrail_name",),
    },
    bogus=dict.fromkeys(("gen_ai.agent.name", "gen_ai.conversation.id", "user.id"), ("", "None", "null")),
    messages="flat or genai",
    remedies=(Remedy("completion(user=...)", ("user.id",)),),
)
