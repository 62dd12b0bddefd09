"""OpenInference on DSPy: tools are called ``NAME.__call__`` or ``NAME.acall``; no span names an agent."""

from __future__ import annotations

from otel_ir.normalize.dialects.openinference import DIALECT as OPENINFERENCE
from otel_ir.normalize.table import On, Unwrap

DIALECT = OPENINFERENCE.but(
    name="openinference.dspy",
    about="OpenInference on DSPy: a tool is what its span calls, a result is JSON; agents are modules without names.",
    scopes=("openinference.instrumentation.dspy",),
    markers=(),
    unwrap=(
        *OPENINFERENCE.unwrap,
        Unwrap("@name", "called", ("tool",), event="tool_call"),
        Unwrap("output.value", "json text", ("text",), needs=r'^"', event="tool_call"),
    ),
    columns={
        "gen_ai.tool.name": ("gen_ai.tool.name", On("tool_call", "tool.name"), On("tool_call", "@name#tool"), On("tool_call", "@name")),
        "gen_ai.tool.call.result": (
            "gen_ai.tool.call.result",
            On("tool_call", "output.value#text"),
            On("tool_call", "output.value"),
        ),
    },
)
