"""Refused calls that nothing describes but the refusal: some emitters write no span and no record of a call that did not run.

Only once everything was read is it known that nothing else describes the call, in whatever order things came; so these calls are part of
the final form, as those are from which nothing ever came back.
"""

from __future__ import annotations

import polars as pl

_KIND, _TOOL, _CALL = "event.type", "gen_ai.tool.name", "gen_ai.tool.call.id"
_CONVERSATION, _EXECUTED, _DECISION = "gen_ai.conversation.id", "otel_ir.executed", "otel_ir.approval.decision"
_ARGUMENTS, _CONTENT, _EVENT = "gen_ai.tool.call.arguments", "otel_ir.content", "otel_ir.event.id"
_REFUSED = r"^(?i:rej|den)"
_CALLS = ("tool_call", "handoff")
_SAME = ("otel_ir.tenant", "otel_ir.sender", _CALL)


def with_refused(events: pl.DataFrame) -> pl.DataFrame:
    """Settled events -> the same, and a rejected ``tool_call`` for each refusal of a call that is none of them.

    A refusal names its tool and its call's id. An event with that id is the call, unless it is of another conversation. Where messages
    tell of a refusal, they tell of the call as well.
    """
    refusals = events.filter(
        pl.col(_KIND) == "approval",
        pl.col("otel_ir.dialect") != "messages",
        pl.col(_DECISION).str.contains(_REFUSED),
        pl.col("otel_ir.duplicate_of").is_null() & pl.col(_CALL).is_not_null() & pl.col(_TOOL).is_not_null(),
    )
    if refusals.is_empty():
        return events
    calls = events.filter(pl.col(_KIND).is_in(_CALLS)).select(*_SAME, pl.col(_CONVERSATION).alias("in"))
    here = (pl.col("in") == pl.col(_CONVERSATION)).fill_null(value=True)
    known = refusals.join(calls, on=_SAME, how="inner", nulls_equal=True).filter(here)
    alone = refusals.join(known.select(_EVENT), on=_EVENT, how="anti", maintain_order="left")
    lost = pl.when(pl.col(_ARGUMENTS).is_null()).then(pl.lit("absent")).otherwise(pl.col(_CONTENT))
    made = alone.unique([*_SAME, _CONVERSATION], keep="first", maintain_order=True).with_columns(
        pl.lit("tool_call").alias(_KIND),
        pl.lit("rejected").alias(_EXECUTED),
        pl.lit(None, dtype=pl.String).alias(_DECISION),
        pl.format("{}#{}", _EVENT, _CALL).alias(_EVENT),
        lost.alias(_CONTENT),
        error=pl.lit(value=False),
    )
    return pl.concat([events, made])
