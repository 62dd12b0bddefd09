"""OpenInference on LangChain and LangGraph.

Its spans are of kind AGENT where the run's name contains "agent", tools among them; what has a ``tool.name`` is a tool. A tool that hands
off gives a command to the graph above its own. Who it is stands in the metadata since LangChain 1.0; before, and in graphs made by hand, an
agent is a graph, and has the name of its span.
"""

from __future__ import annotations

from otel_ir.normalize.dialects.openinference import DIALECT as OPENINFERENCE
from otel_ir.normalize.table import On, Unwrap

_TO = "__handoff_destination"

DIALECT = OPENINFERENCE.but(
    name="openinference.langchain",
    about="OpenInference on LangChain and LangGraph: agent, conversation and user are in the metadata of each span.",
    scopes=("openinference.instrumentation.langchain",),
    markers=(),
    classify=(
        ("handoff", "tool.name", f'metadata*="{_TO}"'),
        ("handoff", "tool.name", 'output.value^={"graph": "__parent__"'),
        ("tool_call", "openinference.span.kind=AGENT", "tool.name"),
        *OPENINFERENCE.classify,
    ),
    unwrap=(
        *OPENINFERENCE.unwrap,
        Unwrap("metadata", "langgraph", (_TO, "node"), event="handoff"),
        Unwrap("output.value", "tool message", ("id",), needs=r'"tool_call_id"', event="handoff"),
        Unwrap("output.value", "members", ("goto",), event="handoff"),
        Unwrap("@name", "graph", ("agent",), event="agent_invocation", beside="metadata"),
    ),
    columns={
        "gen_ai.agent.name": (
            "gen_ai.agent.name",
            On("agent_invocation", "agent.name"),
            "metadata#lc_agent_name",
            On("agent_invocation", "@name#agent"),
            On("handoff", "metadata#node"),
        ),
        "gen_ai.tool.name": ("gen_ai.tool.name", "tool.name", On("tool_call", "@name")),
        "gen_ai.tool.call.id": (*OPENINFERENCE.columns["gen_ai.tool.call.id"], On("handoff", "output.value#id")),
        "otel_ir.handoff.from": (On("handoff", "metadata#lc_agent_name"), On("handoff", "metadata#node")),
        "otel_ir.handoff.to": (On("handoff", f"metadata#{_TO}"), On("handoff", "output.value#goto")),
    },
)
