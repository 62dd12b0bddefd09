"""The published reference, made from the tables themselves: the event schema and the dialects. ``tools/generate_docs.py`` writes it."""

from __future__ import annotations

from functools import cache
from typing import Any

import polars as pl

from otel_ir.model import EVENT_COLUMNS, EventType
from otel_ir.normalize.dialects import DIALECTS
from otel_ir.normalize.table import DETAIL, EVENT_TYPE, NO_EVENT, STATED, Dialect

_TIMES = ("event_time", "start_time")
_TYPES = {pl.String: "string", pl.Int64: "integer", pl.UInt32: "integer", pl.Boolean: "boolean"}


_BY_CODE = frozenset({"otel_ir.executed", "otel_ir.guardrail.triggered", "error", "error.type", "error.message"})
"""Columns that an application may state and that are worked out where it does not."""


@cache
def filled_columns() -> frozenset[str]:
    """Columns which the telemetry of some framework fills. Of the others only applications know that state them.

    A column in the words of the conventions is read by its own name in every dialect; one of ours only where a table names a source.
    """
    listed = {name for dialect in DIALECTS for name in dialect.columns}
    return frozenset(
        name for name in EVENT_COLUMNS if name not in STATED or name in listed or name in _BY_CODE or not name.startswith("otel_ir.")
    )


@cache
def made_events() -> frozenset[str]:
    """Types of the events that some dialect makes."""
    return frozenset(rule[0] for dialect in DIALECTS for rule in (*dialect.classify, *dialect.classify_logs)) - {DETAIL}


def event_schema() -> dict[str, Any]:
    """One row of ``otel-ir events`` as JSON Schema (draft 2020-12); ``x-source`` says where a word comes from, ``x-stated`` whether an
    application may state the column itself.
    """
    properties: dict[str, Any] = {}
    for name, column in EVENT_COLUMNS.items():
        kind: dict[str, Any] = (
            {"type": ["string", "null"], "format": "date-time"} if name in _TIMES else {"type": [_TYPES[column.dtype], "null"]}
        )
        properties[name] = kind | {
            "description": column.meaning,
            "x-source": column.source,
            "x-stated": name in STATED or name == "event.type",
        }
    properties["event.type"]["enum"] = [*EventType]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "otel_ir event",
        "description": "One thing an agent did. Further columns: otel_ir.arguments.<name> (string) and its .length (integer).",
        "type": "object",
        "properties": properties,
    }


def schema_markdown() -> str:
    """The event schema as a table for people."""
    lines = [
        "# The canonical event",
        "",
        "One row per thing an agent did. This is the frame that rules see, and what `otel-ir events` prints (times as RFC 3339 text).",
        "As JSON Schema: [event-schema.json](event-schema.json), or `otel-ir events --schema`.",
        "",
        f"*Stated*: an application may set the column itself, by a span or log attribute of that name (`event.type`: by `{EVENT_TYPE}`).",
        "Any other attribute can be named in a rule as it is; `otel_ir.arguments.<name>` and `otel_ir.arguments.<name>.length` are single",
        "arguments of a tool call.",
        "",
        "| column | type | meaning | source | stated |",
        "|---|---|---|---|---|",
    ]
    for name, one in event_schema()["properties"].items():
        kind = "time" if name in _TIMES else one["type"][0]
        lines.append(f"| `{name}` | {kind} | {one['description']} | {one['x-source']} | {'yes' if one['x-stated'] else ''} |")
    return "\n".join(lines) + "\n"


def dialects_markdown() -> str:
    """Every dialect table, in the order in which they are asked."""
    lines = [
        "# Dialects",
        "",
        "What each emitter sends, and which canonical column it becomes. Made from `otel_ir/normalize/dialects/` by",
        "`tools/generate_docs.py`; how to add one is in CONTRIBUTING.md. A table is chosen by the instrumentation scope, else by a",
        "marker attribute.",
        "",
        "A source is an attribute of the span or log record; `event:NAME/key` is one of a span event, `resource:key` one of the",
        "resource, `key#member` what an unwrapper finds inside a value, `@name` and the like are the span's own fields, `=text` is that",
        "very text; `@event` is a log record's event name, else its attribute `event.name`, else a body that is one word. The first",
        "source that is there counts. An attribute with the canonical name itself counts first, so an application can state any",
        "column that [event-schema.md](event-schema.md) marks as stated. What to switch on where columns stay empty is the last table of",
        "a dialect; `otel-ir doctor` says what of it your agents need ([doctor.md](doctor.md)).",
        "",
        "## Rules for all dialects",
        "",
        "* An agent span without a name or id of its own is structure, no event. UUIDs are no stable agent ids.",
        "* Tokens count on model calls only.",
        "* `error.type` is `error.type` unless it says nothing (`_OTHER`, `unknown`, `Exception`), else the type of the exception",
        "  event, else the class with which the message begins.",
        "* A tool call with a result or an error was executed; without either, the table says what it is.",
        "* A tool event without a call id takes the id of the call in an LLM message of its trace with the same tool and equal",
        "  arguments, its own turn first, else the oldest one that no span has taken. A call that no span describes becomes an event",
        "  when a later request carries its result, or at the end; the span that comes even later is told of it.",
        "* A tool span with a bare text for its only argument takes the argument's name from the message that asked for the call. One id",
        "  with different values of one argument is of different calls.",
        "* A log record that describes a model call whose span it names is a second description of it; who it says is the caller counts",
        "  for that span, and so for the tool calls beside it.",
        "* Log records with one message each (`gen_ai.choice`, `gen_ai.tool.message` and so on; body or `gen_ai.event.content`) are read",
        "  for tool calls and results, whatever the dialect. A result finds its call by id, tool and arguments in another trace, too.",
        "* What another record says of a call is told of its event: arguments, result, failure, and that it ran.",
        "* A call that waits for a person is an event, `pending_approval`, once everything was read, or when a later run tells what came",
        "  of it; `unknown` where that says neither that it ran nor that somebody refused.",
        "* Once everything was read, a span without a call id is told of a result that nobody asked for, if that may be of no other span:",
        "  a run that goes on after a person decided brings it back in another trace.",
        "* A call that somebody refused is an event, `rejected`. Where only the refusal names it, by tool and id, that event is made of",
        "  the refusal, once everything was read.",
        "* Of a tool span without a parent, the span that tells of its call stands for the parent, if it may know who called.",
        "* A tool call below a tool call is the same one where a framework calls a tool of that name through MCP. What an MCP server says",
        "  of a call whose caller describes it, too, is of that call, by name and time.",
        "* A *detail* is no event: it tells of the call that it names, else of the span in which it stands.",
    ]
    for dialect in DIALECTS:
        lines += [
            "",
            f"## {dialect.name}",
            "",
            dialect.about,
            "",
            *_facts(dialect),
            *_rules(dialect),
            *_columns(dialect),
            *_remedies(dialect),
        ]
    return "\n".join(lines) + "\n"


def _facts(dialect: Dialect) -> list[str]:
    executed = f"with arguments `{dialect.executed}`, without `{dialect.unproven}`"
    unwrapped = [f"`{one.source}` by *{one.via}*{f' on {one.event}' if one.event else ''}" for one in dialect.unwrap]
    facts = {
        "Scopes": _listed(dialect.scopes),
        "Markers": _listed(dialect.markers),
        "A tool call without result and error": executed if dialect.classify else "",
        "An error": _listed(dialect.error),
        "No error, though it looks like one": _listed(dialect.not_errors),
        "A guardrail tripped, says the span above it": _listed(dialect.tripped),
        "A person refused, says a tool result": _listed(dialect.rejected),
        "Tool calls are also read from LLM messages": dialect.messages or "",
        "For": dialect.signal or "",
        "One call, what its id is unique within": _listed(dialect.call),
        "Siblings, though of no trace, are log records that share": _listed(dialect.within),
        "Said better by another description of the call": _listed(dialect.weak),
        "A model call of an instrumentation may be the same, provider": dialect.inner or "",
        "Unwrapped": ", ".join(unwrapped),
        "Means nothing": ", ".join(f"`{value}` in `{name}`" for name, values in dialect.bogus.items() for value in values),
    }
    return [f"* {name}: {value}" for name, value in facts.items() if value]


def _rules(dialect: Dialect) -> list[str]:
    rules = [("span", rule) for rule in dialect.classify] + [("log", rule) for rule in dialect.classify_logs]
    if not rules:
        return []
    rows = [f"| {'(structure)' if rule[0] == NO_EVENT else rule[0]} | {what} | {_listed(rule[1:], ' and ')} |" for what, rule in rules]
    return ["", "| event | of | when |", "|---|---|---|", *rows]


def _columns(dialect: Dialect) -> list[str]:
    if not dialect.columns:
        return []
    rows = []
    for column in dialect.columns:
        sources = (f"`{source}`" + (f" (on {event})" if event else "") for event, source in dialect.sources_of(column))
        rows.append(f"| `{column}` | {', '.join(sources)} |")
    return ["", "| column | sources, best first |", "|---|---|", *rows]


def _remedies(dialect: Dialect) -> list[str]:
    if not dialect.remedies:
        return []
    rows = [f"| `{one.setting}` | {_listed(one.gives)} | {one.note} |" for one in dialect.remedies]
    return ["", "| switch on | what it gives | |", "|---|---|---|", *rows]


def _listed(values: tuple[str, ...], joint: str = ", ") -> str:
    return joint.join(f"`{value}`".replace("|", "\\|") for value in values)
