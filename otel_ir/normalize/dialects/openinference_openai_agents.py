"""OpenInference on the OpenAI Agents SDK (2.x).

Its root AGENT span carries the workflow's name, not an agent's; only AGENT spans with ``agent.name`` are agents. A tool span with
arguments and neither result nor error is a call that waits for approval (``needs_approval``): the SDK always has a result otherwise.
"""

from __future__ import annotations

from otel_ir.normalize.dialects.openinference import DIALECT as OPENINFERENCE
from otel_ir.normalize.table import On

DIALECT = OPENINFERENCE.but(
    name="openinference.openai_agents",
    about="OpenInference on the OpenAI Agents SDK: no call ids on tool spans, pending approvals look like successful calls.",
    scopes=("openinference.instrumentation.openai_agents",),
    markers=(),
    columns={"gen_ai.agent.name": ("gen_ai.agent.name", On("agent_invocation", "agent.name"))},
    executed="pending_approval",
    tripped=("@message^=Guardrail tripwire triggered",),
)
