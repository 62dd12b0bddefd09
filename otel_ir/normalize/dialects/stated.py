"""Telemetry that an application wrote for otel_ir itself: it states ``otel_ir.event.type`` and any other canonical column."""

from __future__ import annotations

from otel_ir.normalize.table import EVENT_TYPE, Dialect

DIALECT = Dialect(
    name="otel_ir",
    about="Stated by the application: otel_ir.event.type and any canonical column, on a span or a log record.",
    scopes=("otel_ir.guard",),
    markers=(EVENT_TYPE,),
    columns={"gen_ai.conversation.id": ("gen_ai.conversation.id", "session.id"), "user.id": ("user.id", "enduser.id")},
)
