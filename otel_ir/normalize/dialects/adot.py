"""AWS Distro for OpenTelemetry (Bedrock AgentCore): it takes the content off the spans and sends one log record per span instead.

The record's event name is the span's instrumentation scope, its body ``{input: {messages: […]}, output: {messages: […]}}``, and it names
the span that it describes. Of a tool's span the messages are the arguments and the result.
"""

from __future__ import annotations

from otel_ir.normalize.dialects.strands import HANDING_OVER, REJECTED
from otel_ir.normalize.table import Dialect, Remedy, Unwrap

DIALECT = Dialect(
    name="adot",
    about="AWS Distro for OpenTelemetry, Bedrock AgentCore: log records with the content of the spans that they name.",
    scopes=("strands.telemetry.tracer", "openinference.instrumentation.*"),
    signal="logs",
    classify=(HANDING_OVER,),
    classify_logs=(("detail", '@body^={"input"'), ("detail", '@body^={"output"')),
    unwrap=(Unwrap("@body", "moved messages", ("input", "output", "agent_name"), event="detail"),),
    columns={
        "gen_ai.conversation.id": ("gen_ai.conversation.id", "session.id"),
        "user.id": ("user.id", "enduser.id"),
        "gen_ai.tool.call.arguments": ("@body#input",),
        "gen_ai.tool.call.result": ("@body#output",),
        "otel_ir.handoff.to": ("@body#agent_name",),
    },
    messages="moved",
    speaks=("detail",),
    rejected=REJECTED,
    spanned=True,
    remedies=(
        Remedy("AGENT_OBSERVABILITY_ENABLED=true", ("gen_ai.conversation.id",), "session.id of the baggage"),
        Remedy("OTEL_BAGGAGE_SPAN_ATTRIBUTE_KEYS=session.id,user.id", ("gen_ai.conversation.id", "user.id"), "of the baggage"),
    ),
)
