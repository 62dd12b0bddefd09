"""A decoded batch -> candidate events with own values only, one node per span, and the tool calls seen in LLM messages. Stateless."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from otel_ir.decode import Batch
from otel_ir.decode.values import Index
from otel_ir.model import EVENT_COLUMNS
from otel_ir.normalize import message_logs
from otel_ir.normalize.arguments import argument_columns, is_argument
from otel_ir.normalize.assign import CODES, Reading, any_of, assign, classify, conditions, readings
from otel_ir.normalize.few import is_among, is_null
from otel_ir.normalize.readers import read_messages
from otel_ir.normalize.rows import READ, Rows
from otel_ir.normalize.sources import Sources
from otel_ir.normalize.table import DETAIL, EVENT_TYPE

_MODEL_ONLY = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")
"""Agent spans repeat the sum of their model calls; tokens count on model calls only (reference, finding 4)."""


@dataclass(frozen=True, slots=True)
class Extract:
    """``events``: ``EVENT_COLUMNS`` plus one column per extra field, in journal order, own values only.

    ``nodes``: one row per span: ordinal i64, position u32, tenant, sender, service.name, trace_id, span_id, parent_span_id, agent_name,
    agent_id, conversation, user (own and authoritative values), start, end i64, tripped (null, or True: this span says that the
    guardrail below it tripped), event_type (null: structure only); and one per log record that says something, named by a hash of it,
    below the span that it names. ``calls``: ``messages.CALL_SCHEMA``. ``tells``: ``rows.TELL_SCHEMA``.
    """

    events: pl.DataFrame
    nodes: pl.DataFrame
    calls: pl.DataFrame
    tells: pl.DataFrame


def extract(batch: Batch, fields: frozenset[str] = frozenset()) -> Extract:
    """Own values of every event in the batch.

    ``fields``: what rules read besides the canonical columns: ``otel_ir.arguments.<name>`` and ``….length``, and attributes of the
    span or log record or, where it has none of that name, of the resource (as text).
    """
    extra = sorted(field for field in fields if field not in EVENT_COLUMNS)
    attributes = [field for field in extra if not is_argument(field)]
    chosen = assign(batch)
    found = readings(chosen)
    wanted = {*attributes, *(f"resource:{name}" for name in attributes)}
    logs = batch.signal == "logs"
    wanted.update(message_logs.READ if logs else ())
    sources = Sources(batch, wanted.union(READ, *(dialect.needed for dialect, _ in found)))
    masks = sources.masks(conditions(found, logs=logs))
    codes = classify(sources, found, masks, logs=logs)
    for dialect, mine in found:
        for step in dialect.unwrap:
            sources.unwrap(step, mine & (codes == CODES[step.event]) if step.event else mine)
    calls = read_messages(sources, found, codes)
    if logs:
        calls = sorted([*calls, *message_logs.read_logs(sources)], key=lambda one: one[0])
    positions = _positions(sources, found, codes)
    # Without a name or an id of its own an agent span is structure: a workflow, a step, a wrapper (reference, section 2.1).
    nameless = codes == CODES["agent_invocation"]
    for column in ("gen_ai.agent.name", "gen_ai.agent.id"):
        if column in positions:
            nameless &= positions[column] < 0
    codes[nameless & ~sources.has(EVENT_TYPE)] = 0
    rows = Rows(batch, sources, chosen, codes, positions)
    events = rows.events(any_of(found, masks, "error", sources.size), attributes)
    told, tells = rows.calls(calls), rows.tells(events)
    if tells.height:
        events = events.filter(pl.col("event.type") != DETAIL)
    arguments = [field for field in extra if is_argument(field)]
    if arguments:
        events = events.hstack(argument_columns(events["gen_ai.tool.call.arguments"], arguments))[[*EVENT_COLUMNS, *extra]]
    return Extract(events, rows.nodes(any_of(found, masks, "tripped", sources.size)), told, tells)


def _positions(sources: Sources, found: list[Reading], codes: Index) -> dict[str, Index]:
    """Stated column that occurs -> position of its text for every row, -1 for none; a better source writes over a worse one."""
    positions: dict[str, Index] = {}
    for dialect, mine in found:
        alone = len(found) == 1
        for column, listed in dialect.plan:
            for event, source in listed:
                if source not in sources:
                    continue
                rows, at = sources.places(source)
                if event or column in _MODEL_ONLY:
                    kept = codes[rows] == CODES[event or "model_output"]
                    rows, at = rows[kept], at[kept]
                if not alone:
                    kept = mine[rows]
                    rows, at = rows[kept], at[kept]
                if column in dialect.bogus and len(rows):
                    kept = ~is_among(texts := sources.gather(at), dialect.bogus[column]) & ~is_null(texts)
                    rows, at = rows[kept], at[kept]
                if column not in positions:
                    positions[column] = np.full(sources.size, -1, dtype=np.int64)
                positions[column][rows] = at
    return positions
