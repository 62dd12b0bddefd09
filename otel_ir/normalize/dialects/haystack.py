"""Haystack 2 and 3, its own spans, through any tracer of the application's: so attributes tell what they are.

Haystack 3 has a span for each step of an agent, its model call and its tool calls, and for what a person decides of a call. Haystack 2 has
one for each component: the tool calls of an agent's step stand in what its ToolInvoker gives, and only where content is captured. An agent
has a name where it is a component of a pipeline; conversations and users are unknown.
"""

from __future__ import annotations

from otel_ir.normalize.table import CONTENT, Dialect, On, Remedy, Unwrap

_HUMAN = "haystack.agent.hook.human_in_the_loop.strategy."
_TOOL, _LLM, _COMPONENT = ("haystack.agent.step.tool.", "haystack.agent.step.llm.", "haystack.component.")
_ANSWER = ("model", "input_tokens", "output_tokens")

DIALECT = Dialect(
    name="haystack",
    about="Haystack 2 and 3: model calls, tool calls (Haystack 2: with content only), approvals, retrievals; no content by default.",
    scopes=("haystack",),
    markers=(
        "haystack.tool.name",
        "haystack.component.type",
        f"{_LLM}output",
        "haystack.agent.max_steps",
        "haystack.agent.step",
        "haystack.pipeline.metadata",
    ),
    classify=(
        ("approval", f"{_HUMAN}decision"),
        ("none", f"{_HUMAN}type"),
        ("tool_call", "@name=haystack.agent.step.tool", "haystack.tool.name"),
        ("model_output", "@name=haystack.agent.step.llm"),
        ("agent_invocation", f"{_COMPONENT}type=Agent"),
        ("model_output", f"{_COMPONENT}type$=Generator|LLM"),
        ("retrieval", f"{_COMPONENT}type$=Retriever"),
    ),
    unwrap=(
        *(Unwrap(f"{source}output", "replies", _ANSWER, needs='"replies"', event="model_output") for source in (_LLM, _COMPONENT)),
        Unwrap(f"{_TOOL}output", "members", ("error",), needs=r'^\{"error":', event="tool_call"),
        Unwrap(f"{_HUMAN}decision", "confirmed", ("decision",), event="approval"),
        Unwrap(f"{_HUMAN}input", "members", ("tool_params",), event="approval"),
    ),
    columns={
        "gen_ai.agent.name": ("gen_ai.agent.name", On("agent_invocation", f"{_COMPONENT}name")),
        "gen_ai.conversation.id": ("gen_ai.conversation.id", "session.id"),
        "user.id": ("user.id", "enduser.id"),
        "gen_ai.tool.name": ("gen_ai.tool.name", "haystack.tool.name"),
        "gen_ai.tool.call.id": ("gen_ai.tool.call.id", "haystack.tool.call.id"),
        "gen_ai.tool.call.arguments": ("gen_ai.tool.call.arguments", f"{_TOOL}input", On("approval", f"{_HUMAN}input#tool_params")),
        "gen_ai.tool.call.result": ("gen_ai.tool.call.result", f"{_TOOL}output"),
        "error.message": (f"{_TOOL}output#error",),
        "gen_ai.response.model": ("gen_ai.response.model", f"{_LLM}output#model", f"{_COMPONENT}output#model"),
        "gen_ai.usage.input_tokens": ("gen_ai.usage.input_tokens", f"{_LLM}output#input_tokens", f"{_COMPONENT}output#input_tokens"),
        "gen_ai.usage.output_tokens": ("gen_ai.usage.output_tokens", f"{_LLM}output#output_tokens", f"{_COMPONENT}output#output_tokens"),
        "gen_ai.input.messages": ("gen_ai.input.messages", *(On("model_output", f"{source}input") for source in (_LLM, _COMPONENT))),
        "gen_ai.output.messages": ("gen_ai.output.messages", *(On("model_output", f"{source}output") for source in (_LLM, _COMPONENT))),
        "otel_ir.approval.decision": (f"{_HUMAN}decision#decision",),
    },
    error=("@status=2", "error.type", "haystack.tool.error=true"),
    executed="yes",
    unproven="yes",
    messages="haystack",
    speaks=("model_output", "none"),
    reads=(f"{_LLM}input", f"{_LLM}output", f"{_COMPONENT}output"),
    rejected=(r"^Tool execution for '[^']*' was rejected by the user\.",),
    remedies=(
        Remedy("HAYSTACK_CONTENT_TRACING_ENABLED=true", (*CONTENT, "gen_ai.tool.call.id"), "or tracing.tracer.is_content_tracing_enabled"),
        Remedy("Pipeline.add_component(name, agent)", ("gen_ai.agent.name",), "an agent that runs alone has no name"),
    ),
)
