"""OpenLLMetry on LangChain and LangGraph: the agent is ``lc_agent_name``; before 0.6x, and for plain graphs, the name of the workflow."""

from __future__ import annotations

from otel_ir.normalize.dialects.traceloop import DIALECT as TRACELOOP
from otel_ir.normalize.table import On, Remedy, Unwrap

_AGENT = TRACELOOP.columns["gen_ai.agent.name"]
_GRAPH = ("traceloop.entity.path#rest", "traceloop.workflow.name")
_CLASSES = (
    *("LangGraph", "RunnableSequence", "RunnableParallel", "RunnableLambda", "RunnableAssign", "RunnableBranch"),
    *("RunnableWithMessageHistory", "AgentExecutor", "LLMChain", "RetrievalQA", "ConversationChain", "StuffDocumentsChain"),
)
"""Names that a workflow has when nobody named it."""
_SESSION = "traceloop.association.properties.session_id"
_OF_A_RUN = r'(?s)^\{"inputs":.*"metadata": ?\{.*"(?:session_id|thread_id|user_id)"'

DIALECT = TRACELOOP.but(
    name="traceloop.langchain",
    about="OpenLLMetry on LangChain and LangGraph: arguments and results are wrapped, the run's id stands as the agent's.",
    scopes=("opentelemetry.instrumentation.langchain",),
    markers=(),
    unwrap=(
        *TRACELOOP.unwrap,
        # Before 0.5x models' spans have no association properties, and of a call that never ran there is no tool's span either.
        Unwrap("traceloop.entity.input", "traceloop input", ("conversation", "user"), needs=_OF_A_RUN, unless=_SESSION),
        *(
            Unwrap("traceloop.entity.path", "graph of '.tools'", ("rest",), needs=r"\.tools$", event=event)
            for event in ("tool_call", "handoff")
        ),
    ),
    columns={
        "gen_ai.agent.name": (*_AGENT, *_GRAPH),
        "otel_ir.handoff.from": (*TRACELOOP.columns["otel_ir.handoff.from"], *(On("handoff", source) for source in _GRAPH)),
    },
    bogus={"gen_ai.agent.name": ("", *_CLASSES)},
    remedies=(
        *TRACELOOP.remedies[:1],
        Remedy(
            'invoke(..., config={"metadata": {"session_id": ..., "user_id": ...}})',
            ("gen_ai.conversation.id", "user.id"),
            "or traceloop-sdk's set_association_properties",
        ),
    ),
)
