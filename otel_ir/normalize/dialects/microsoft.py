"""Microsoft's frameworks: Agent Framework, Semantic Kernel, AutoGen. They speak the GenAI conventions, with words of their own.

Content needs ``ENABLE_SENSITIVE_DATA`` (Agent Framework) or ``SEMANTICKERNEL_EXPERIMENTAL_GENAI_ENABLE_OTEL_DIAGNOSTICS_SENSITIVE``;
AutoGen never sends arguments or results. The default agent id is a UUID for each object.
"""

from __future__ import annotations

from otel_ir.normalize.dialects.otel_genai import DIALECT as GENAI
from otel_ir.normalize.table import CONTENT, On, Remedy, Unwrap

AGENT_FRAMEWORK = GENAI.but(
    name="agent_framework",
    about="Microsoft Agent Framework (Python, .NET): arguments and results with ENABLE_SENSITIVE_DATA only.",
    scopes=("agent_framework", "agent_framework.*", "Microsoft.Agents.AI", "Experimental.Microsoft.Agents.AI*"),
    markers=(),
    classify=(("handoff", "gen_ai.operation.name=execute_tool", "gen_ai.tool.name^=handoff_to_"), *GENAI.classify),
    unwrap=(*GENAI.unwrap, Unwrap("gen_ai.tool.name", "after 'handoff_to_'", ("rest",), event="handoff")),
    columns={
        # In 1.0 a streamed run's tools stand beside the agent's span, below the workflow's step that is named for the agent.
        "gen_ai.agent.name": ("gen_ai.agent.name", "executor.id"),
        "otel_ir.handoff.to": (On("handoff", "gen_ai.tool.name#rest"),),
    },
    bogus={"gen_ai.tool.call.id": ("unknown", "<not specified>"), "gen_ai.tool.call.arguments": ("None",)},
    speaks=("model_output", "agent_invocation"),
    # The whole answer: a tool may quote these words.
    rejected=(r"^[\w :,'-]{0,80}\brejected by (?:the )?user\.?$",),
    remedies=(
        Remedy(
            "ENABLE_SENSITIVE_DATA=true",
            CONTENT,
            "or enable_sensitive_telemetry(); where OTEL_SEMCONV_STABILITY_OPT_IN is set, with gen_ai_latest_experimental in it",
        ),
    ),
)
SEMANTIC_KERNEL = GENAI.but(
    name="semantic_kernel",
    about="Semantic Kernel (Python, .NET): a tool's name is Plugin-function, results are Python reprs.",
    scopes=("semantic_kernel.*", "Microsoft.SemanticKernel*"),
    markers=(),
    classify=(
        (
            "model_output",
            "gen_ai.operation.name=chat.completions|chat.streaming_completions|text.completions|text.streaming_completions",
        ),
        ("none", "@name^=AutoFunctionInvocationLoop"),
        ("handoff", "gen_ai.operation.name=execute_tool", "gen_ai.tool.name^=Handoff-transfer_to_"),
        *GENAI.classify,
    ),
    unwrap=(*GENAI.unwrap, Unwrap("gen_ai.tool.name", "after 'Handoff-transfer_to_'", ("rest",), event="handoff")),
    columns={"otel_ir.handoff.to": (On("handoff", "gen_ai.tool.name#rest"),)},
    remedies=(
        Remedy(
            "SEMANTICKERNEL_EXPERIMENTAL_GENAI_ENABLE_OTEL_DIAGNOSTICS_SENSITIVE=true",
            CONTENT,
            "messages are log records; SEMANTICKERNEL_EXPERIMENTAL_GENAI_ENABLE_OTEL_DIAGNOSTICS=true alone gives spans without content",
        ),
    ),
)
AUTOGEN = GENAI.but(
    name="autogen",
    about="AutoGen 0.7: tool spans have a name and a call id, never arguments or results.",
    scopes=("autogen-core", "autogen *"),
    markers=(),
    classify=(
        ("handoff", "gen_ai.operation.name=execute_tool", "gen_ai.tool.name^=transfer_to_"),
        ("handoff", "gen_ai.operation.name=execute_tool", "gen_ai.tool.description^=Handoff to "),
        *GENAI.classify,
    ),
    unwrap=(*GENAI.unwrap, Unwrap("gen_ai.tool.name", "after 'transfer_to_'", ("rest",), event="handoff")),
    columns={"otel_ir.handoff.to": (On("handoff", "gen_ai.tool.name#rest"),)},
    inside=True,  # of what an instrumentation says of the same call
    remedies=(),  # it has no setting for content
)
