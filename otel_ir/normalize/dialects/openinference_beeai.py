"""OpenInference on the BeeAI framework: a failure is a second span of kind TOOL below the tool's, which names no tool."""

from __future__ import annotations

from otel_ir.normalize.dialects.openinference import DIALECT as OPENINFERENCE
from otel_ir.normalize.table import On, Unwrap

DIALECT = OPENINFERENCE.but(
    name="openinference.beeai",
    about="OpenInference on BeeAI: arguments stand beside the options of the run, an error's chain of causes is the output.",
    scopes=("openinference.instrumentation.beeai", "@arizeai/openinference-instrumentation-beeai"),
    markers=(),
    classify=(("none", "openinference.span.kind=TOOL", "!tool.name"), *OPENINFERENCE.classify),
    unwrap=(
        *OPENINFERENCE.unwrap,
        Unwrap("input.value", "run", ("input",), needs=r'^\{"input":', event="tool_call"),
        Unwrap("output.value", "causes", ("failure",), needs=r"^\w{1,128}\([\w.]{1,256}\): ", event="tool_call"),
    ),
    columns={
        "gen_ai.tool.call.arguments": (
            "gen_ai.tool.call.arguments",
            On("tool_call", "input.value#input"),
            On("tool_call", "input.value"),
        ),
        "error.message": (On("tool_call", "output.value#failure"),),
    },
)
