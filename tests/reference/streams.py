"""Random streams of records, as node and event rows: traces with late ancestors, siblings that lend, repeats, late and skewed times."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
from reference.fold import Record

from otel_ir.model import EVENT_SCHEMA, scoped

TOOLS = ("a", "b", "c", "d")


@dataclass
class Shape:
    """``agents``: of how many names a span may tell; the fewer, the fuller their windows. ``pace``: receive time between records.

    ``parents``: only the first so many spans of a tree have children; the fewer, the more siblings move together.
    ``skew``: how much earlier than received a span may have ended. ``senders``: among how many the traces are shared out.
    """

    records: int = 12
    traces: int = 3
    spans: int = 5
    skew: int = 8
    own: float = 0.4
    repeat: float = 0.1
    errors: float = 0.3
    agents: int = 2
    pace: int = 3
    senders: int = 1
    parents: int = 1000


def stream(seed: int, shape: Shape) -> list[Record]:
    """Spans of a few trees, shuffled over records so that parents come before, with or after their children, or never."""
    chance = random.Random(seed)
    spans = [span for trace in range(shape.traces) for span in _tree(chance, f"{trace + 1:032x}", shape)]
    chance.shuffle(spans)
    records = [Record(ordinal, received=ordinal * shape.pace) for ordinal in range(1, shape.records + 1)]
    for span in spans:
        record = chance.choice(records)
        _put(chance, record, span, shape)
        if chance.random() < shape.repeat:
            _put(chance, chance.choice(records), span, shape)
    return records


def _tree(chance: random.Random, trace: str, shape: Shape) -> list[dict[str, Any]]:
    spans: list[dict[str, Any]] = []
    for number in range(shape.spans):
        parent = chance.choice([*spans[: shape.parents], None]) if spans and chance.random() < 0.9 else None
        kind = chance.choice(["tool_call", "tool_call", "model_output", None, "agent_invocation"])
        own = {
            name: f"{name[0]}{chance.randint(1, shape.agents)}" if chance.random() < shape.own / 2 else None
            for name in ("agent", "conversation", "user")
        }
        spans.append(
            {
                "trace": trace,
                "sender": f"s{int(trace, 16) % shape.senders}" if shape.senders > 1 else "",
                "span": f"{int(trace, 16) * 100 + number + 1:016x}",
                "parent": parent["span"] if parent else f"{int(trace, 16) * 100 + 99:016x}" if chance.random() < 0.3 else None,
                "service": "svc",
                "type": kind,
                "tool": chance.choice(TOOLS) if kind == "tool_call" else None,
                "error": chance.random() < shape.errors,
                **own,
            }
        )
    return spans


def _put(chance: random.Random, record: Record, span: dict[str, Any], shape: Shape) -> None:
    position = len(record.nodes)
    row = span | {"position": position, "time": max(1, record.received - chance.randint(0, shape.skew))}
    if row["agent"] is not None:
        row["agent"] = f"svc/{row['agent']}"
    apart = random.Random(f"{record.ordinal}/{row['span']}/{position}")  # so that what is told of containment changes no other draw
    row["start"] = apart.choice([None, 0, *(row["time"] - ago for ago in (-1, 0, 0, 1, 2, 4))])
    row["executed"] = apart.choice(["yes", "yes", "unknown", "rejected", "pending_approval"]) if span["type"] == "tool_call" else None
    row["size"] = apart.choice([None, 0, 1, 2, 3, 5, -2])
    row["amount"] = apart.choice([None, "x", "inf", "nan", "0.1", "0.2", "0.3", "1e16", "-1e16", "1", "1.7e308", "-1.7e308"])
    record.nodes.append(row | {"lends": span["type"] in ("tool_call", "model_output")})
    if span["type"] is not None:
        record.events.append(dict(row))


def contain(action: str, verb: str, since: int, *selectors: dict[str, str], state: str = "verified", **more: Any) -> dict[str, Any]:
    """What a control record says of an action."""
    said = {"action_id": action, "state": state, "verb": verb, "since": since, "tenant": "", "service": "svc"}
    return said | {"selectors": [*selectors], "tools": None, "read_only": []} | more


def controlled(seed: int, records: list[Record], number: int, agents: int) -> list[Record]:
    """The same stream with control records about up to three actions put in at random places; all are numbered anew."""
    chance = random.Random(seed)
    traces = sorted({node["trace"] for record in records for node in record.nodes})
    mixed = list(records)
    for _ in range(number):
        at = chance.randrange(len(mixed))
        received = mixed[at].received
        who = [
            {"otel_ir.agent.id": f"svc/a{chance.randint(1, agents)}"},
            {"gen_ai.conversation.id": f"c{chance.randint(1, agents)}"},
            {"trace_id": chance.choice(traces)},
        ]
        who.append(who[0] | who[1])
        verb = chance.choice(["pause_agent", "revoke_tools", "revoke_tools", "read_only_tools", "isolate_network"])
        state = chance.choice([*["verified"] * 4, "unverified", "violated", "released", "expired"])
        said = contain(
            f"act-{chance.randint(1, 3)}", verb, max(1, received - chance.randint(-2, 12)), *chance.sample(who, chance.randint(1, 3)),
            state=state, service=chance.choice(["svc"] * 5 + ["other"]),
            tools=chance.choice([None, None, chance.sample(TOOLS, 2)]), read_only=chance.choice([[], ["a"], ["b*", "c"]]),
        )  # fmt: skip
        mixed.insert(at, Record(0, received, control=said))
    return [replace(record, ordinal=ordinal) for ordinal, record in enumerate(mixed, start=1)]


def frames(records: list[Record], scale: int = 1) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The same records as the frames ``extract`` would give: (events, nodes). Times are multiplied by ``scale``."""
    events = [
        {
            "event_time": one["time"] * scale,
            "start_time": one.get("start") and one["start"] * scale,
            "event.type": one["type"],
            "trace_id": one["trace"],
            "span_id": one["span"],
            "otel_ir.parent_span_id": one["parent"],
            "service.name": one["service"],
            "otel_ir.tenant": "",
            "otel_ir.sender": one.get("sender", ""),
            "otel_ir.agent.id": one["agent"],
            "otel_ir.agent.id_source": "own" if one["agent"] else "none",
            "gen_ai.agent.name": one["agent"] and one["agent"][4:],
            "gen_ai.conversation.id": one["conversation"],
            "user.id": one["user"],
            "gen_ai.tool.name": one["tool"],
            "otel_ir.executed": one.get("executed"),
            "error": one["error"],
            "error.message": one.get("amount"),
            "otel_ir.result.size": one.get("size"),
            "otel_ir.event.id": scoped("", one.get("sender"), f"{one['trace']}/{one['span']}"),
            "otel_ir.journal.ordinal": record.ordinal,
            "otel_ir.journal.position": one["position"],
        }
        for record in records
        for one in record.events
    ]
    nodes = [
        {
            "ordinal": record.ordinal,
            "position": one["position"],
            "tenant": "",
            "sender": one.get("sender", ""),
            "service.name": one["service"],
            "trace_id": one["trace"],
            "span_id": one["span"],
            "parent_span_id": one["parent"],
            "agent_name": one["agent"] and one["agent"][4:],
            "agent_id": None,
            "conversation": one["conversation"],
            "user": one["user"],
            "start": 0,
            "end": one["time"] * scale,
            "tripped": None,
            "event_type": one["type"],
        }
        for record in records
        for one in record.nodes
    ]
    return pl.DataFrame(events, schema=EVENT_SCHEMA), pl.DataFrame(nodes, schema=NODE_SCHEMA)


NODE_SCHEMA = pl.Schema(
    {"ordinal": pl.Int64, "position": pl.UInt32}
    | dict.fromkeys(
        ("tenant", "sender", "service.name", "trace_id", "span_id", "parent_span_id", "agent_name", "agent_id", "conversation", "user"),
        pl.String,
    )
    | {"start": pl.Int64, "end": pl.Int64, "tripped": pl.Boolean, "event_type": pl.String}
)
