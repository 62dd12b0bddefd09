"""OpenInference on AutoGen's AgentChat: its tool spans have the arguments and results that AutoGen's own, below them, lack."""

from __future__ import annotations

from otel_ir.normalize.dialects.openinference import DIALECT as OPENINFERENCE
from otel_ir.normalize.table import On, Unwrap

DIALECT = OPENINFERENCE.but(
    name="openinference.autogen",
    about="OpenInference on AutoGen's AgentChat: the tools of a swarm that hand over are hand-offs.",
    scopes=("openinference.instrumentation.autogen*",),
    markers=(),
    classify=(
        ("handoff", "openinference.span.kind=TOOL", "tool.name^=transfer_to_"),
        ("handoff", "openinference.span.kind=TOOL", "tool.description^=Handoff to "),
        *OPENINFERENCE.classify,
    ),
    unwrap=(*OPENINFERENCE.unwrap, Unwrap("tool.name", "after 'transfer_to_'", ("rest",), event="handoff")),
    columns={
        "gen_ai.tool.name": ("gen_ai.tool.name", "tool.name", On("tool_call", "@name")),
        "otel_ir.handoff.from": (),
        "otel_ir.handoff.to": (On("handoff", "tool.name#rest"),),
    },
)
