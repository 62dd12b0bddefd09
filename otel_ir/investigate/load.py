"""Reads from the evidence what an investigation needs: lazily, bounded, and saying what was left out. The only I/O of the stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from otel_ir.errors import StorageError
from otel_ir.investigate.model import IncidentFacts
from otel_ir.investigate.trace import needles
from otel_ir.model import EVENT_SCHEMA
from otel_ir.store import read_events

MINUTE = 60_000_000_000
BEFORE, AFTER = 60 * MINUTE, 5 * MINUTE
"""The window: from an hour before the first alert to five minutes after the last one (the article's)."""
MAX_WINDOW = 25 * 60 * MINUTE
LOOKBACK = 7 * 24 * 60 * MINUTE
"""How far the data flow is followed back: the conversation itself, and its values in what other conversations were given."""
MAX_EVENTS = 5_000
"""Events of the window and of the conversation that are looked at."""
MAX_CONTENT = 1_000
"""Of these, how many are read with arguments, results and messages."""
MAX_REQUESTS = 100
"""Requests to models whose messages are read: the newest before the last cited event. Each repeats its conversation."""
MAX_CHARACTERS = 65_536
MAX_MESSAGES = 262_144
"""Characters read of an argument or a result, and of a request's messages."""
MAX_ELSEWHERE = 200
MAX_FLEET = 1_000

_ID, _TIME, _AGENT = "otel_ir.event.id", "event_time", "otel_ir.agent.id"
_CONTENT: Mapping[str, int] = {
    "gen_ai.tool.call.arguments": MAX_CHARACTERS,
    "gen_ai.tool.call.result": MAX_CHARACTERS,
    "gen_ai.system_instructions": MAX_CHARACTERS,
    "gen_ai.output.messages": MAX_CHARACTERS,
    "gen_ai.input.messages": MAX_MESSAGES,
}
_LIGHT = [name for name in EVENT_SCHEMA if name not in _CONTENT and name != "error.message"]
_FLEET: dict[str, Any] = {
    "otel_ir.agent.id": pl.String,
    "prompts": pl.List(pl.String),
    "prompt_span": pl.String,
    "tools": pl.List(pl.String),
    "tool_span": pl.String,
}
FLEET_SCHEMA = pl.Schema(_FLEET)
"""Agents seen in the window: their system prompts, the tools they called, and a span for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the evidence holds of an incident: event frames and the fleet (``FLEET_SCHEMA``)."""

    window: tuple[int, int]
    total_events: int = 0
    events: pl.DataFrame = field(default_factory=EVENT_SCHEMA.to_frame)
    elsewhere: pl.DataFrame = field(default_factory=EVENT_SCHEMA.to_frame)
    fleet: pl.DataFrame = field(default_factory=FLEET_SCHEMA.to_frame)
    cut: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def window_of(facts: IncidentFacts) -> tuple[int, int]:
    """[first alert - 1 h, last alert + 5 min], at most ``MAX_WINDOW``; around the opening where there is no alert."""
    times = [one.alert.event_time for one in facts.alerts] or [facts.opened_at]
    start = min(times) - BEFORE
    return start, min(max(times) + AFTER, start + MAX_WINDOW)


def load_evidence(url: str, facts: IncidentFacts, *, storage_options: Mapping[str, str] | None = None) -> Evidence:
    """Everything there is at ``url`` about the incident. Never raises for missing evidence: ``notes`` say that it is missing."""
    window = window_of(facts)
    try:
        return _load(_Reader(url, storage_options or {}), facts, window)
    except StorageError as error:
        note = f"the evidence cannot be read ({error}): nothing was flushed yet, or it is elsewhere (--evidence)"
        return Evidence(window=window, notes=(note,))


@dataclass(frozen=True, slots=True)
class _Reader:
    url: str
    options: Mapping[str, str]

    def scan(self, start: int, end: int, where: pl.Expr) -> pl.LazyFrame:
        return read_events(self.url, start, end, where=where, storage_options=self.options)


def _load(reader: _Reader, facts: IncidentFacts, window: tuple[int, int]) -> Evidence:
    light, total, cut = _scope(reader, facts, window)
    events, more = _with_content(reader, facts, light)
    cut += more
    elsewhere = _elsewhere(reader, facts, events, window)
    if elsewhere.height > MAX_ELSEWHERE:
        cut.append(f"values of this incident stand in more than {MAX_ELSEWHERE} other events: only the earliest {MAX_ELSEWHERE} were read")
    return Evidence(
        window=window,
        total_events=total,
        events=events,
        elsewhere=elsewhere.head(MAX_ELSEWHERE),
        fleet=_fleet(reader, facts, window),
        cut=tuple(cut),
        notes=_missing(facts, events),
    )


def _scope(reader: _Reader, facts: IncidentFacts, window: tuple[int, int]) -> tuple[pl.DataFrame, int, list[str]]:
    """The agent's events in the window, and those of its conversations and traces from before; how many the agent has in the window."""
    alerts = [one.alert for one in facts.alerts]
    traces = sorted({ref.trace_id for one in alerts for ref in one.contributing} | {one.trace_id for one in alerts} - {""})
    talks = sorted({one.conversation_id for one in alerts if one.conversation_id})
    near = pl.col("trace_id").is_in(traces) | pl.col("gen_ai.conversation.id").is_in(talks).fill_null(False)
    inside = pl.col(_TIME).is_between(*window, closed="left")
    services = sorted({facts.service, *(one.service for one in alerts)} - {""})
    at_all = near | (inside & pl.col("service.name").is_in(services))
    owner = pl.col("otel_ir.tenant").fill_null("") == facts.tenant
    scan = reader.scan(window[0] - LOOKBACK, window[1], owner & at_all).select(_LIGHT)
    about = pl.col(_AGENT) == facts.agent_id
    mine = scan.filter(near | (inside & about))
    at = facts.main.alert.event_time if facts.main else facts.opened_at
    nearest = mine.with_columns((~near).alias("far"), (pl.col(_TIME) - at).abs().alias("away")).sort("far", "away")
    chosen, counts = pl.collect_all([nearest.head(MAX_EVENTS), mine.select(pl.len(), (inside & about).sum().alias("total"))])
    events = chosen.drop("far", "away").sort("otel_ir.journal.ordinal", "otel_ir.journal.position")
    found, total = counts.row(0)
    cut = [f"of {found:,} events only the {MAX_EVENTS:,} nearest to the alert were looked at"] if found > MAX_EVENTS else []
    return events, int(total or 0), cut


def _with_content(reader: _Reader, facts: IncidentFacts, light: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """The events with arguments, results and messages, as far as the bounds allow; events beyond them have none."""
    cited = [ref.span_id for one in facts.alerts for ref in one.alert.contributing] + [one.alert.span_id for one in facts.alerts]
    last = max((one.alert.event_time for one in facts.alerts), default=facts.opened_at)
    ranked = light.with_columns(
        (~pl.col("span_id").is_in(cited)).alias("rank"),
        (pl.col(_TIME) - last).abs().alias("away"),
    ).sort("rank", "away")
    model = pl.col("event.type") == "model_output"
    requests = ranked.filter(model & (pl.col("start_time") <= last)).head(MAX_REQUESTS)
    chosen = pl.concat([requests, ranked.filter(~model).head(MAX_CONTENT - requests.height)])
    cut = []
    later = ranked.filter(model & (pl.col("start_time") > last)).height
    if light.height > chosen.height + later:
        left = light.height - chosen.height - later
        cut.append(f"{left:,} of {light.height:,} events were looked at without arguments, results and messages")
    if chosen.is_empty():
        return light.join(_no_content(), on=_ID, how="left"), cut
    start, end = int(chosen[_TIME].min()), int(chosen[_TIME].max()) + 1  # type: ignore[arg-type]
    scan = reader.scan(start, end, pl.col("span_id").is_in(chosen["span_id"].unique().to_list()))
    scan = scan.filter(pl.col(_ID).is_in(chosen[_ID].to_list()))
    lengths = [(pl.col(name).str.len_chars() > limit).fill_null(False).sum().alias(name) for name, limit in _CONTENT.items()]
    heads = [pl.col(name).str.slice(0, limit) for name, limit in _CONTENT.items()]
    content, long = pl.collect_all([scan.select(_ID, "error.message", *heads), scan.select(lengths)])
    for name, count in long.row(0, named=True).items():
        if count:
            cut.append(f"of {count:,} values of {name} only the first {_CONTENT[name]:,} characters were read")
    return light.join(content, on=_ID, how="left", maintain_order="left"), cut


def _no_content() -> pl.DataFrame:
    return pl.Schema({_ID: pl.String, "error.message": pl.String, **dict.fromkeys(_CONTENT, pl.String)}).to_frame()


def _elsewhere(reader: _Reader, facts: IncidentFacts, events: pl.DataFrame, window: tuple[int, int]) -> pl.DataFrame:
    """Events outside the scope that hold a value which the harmful calls were steered with: who brought it earlier, who has it too."""
    wanted = needles(facts, events)
    if not wanted:
        return EVENT_SCHEMA.to_frame()
    owner = pl.col("otel_ir.tenant").fill_null("") == facts.tenant
    holds = pl.any_horizontal(
        pl.col(name).str.contains_any(list(wanted), ascii_case_insensitive=True).fill_null(False)
        for name in ("gen_ai.tool.call.arguments", "gen_ai.tool.call.result")
    )
    scan = reader.scan(window[0] - LOOKBACK, window[1], owner & holds)
    heads = [pl.col(name).str.slice(0, MAX_CHARACTERS) for name in ("gen_ai.tool.call.arguments", "gen_ai.tool.call.result")]
    others = scan.filter(~pl.col(_ID).is_in(events[_ID].to_list())).sort(_TIME).head(MAX_ELSEWHERE + 1)
    return others.select(*_LIGHT, *heads).collect()


def _fleet(reader: _Reader, facts: IncidentFacts, window: tuple[int, int]) -> pl.DataFrame:
    """The agents of the tenant in the window, those of the same service first."""
    owner = pl.col("otel_ir.tenant").fill_null("") == facts.tenant
    request = pl.col("gen_ai.input.messages").str.slice(0, 8_192)
    stated = pl.col("gen_ai.system_instructions").str.slice(0, 8_192).str.strip_chars("[]")
    prompt = stated.fill_null(request.str.extract(r'^\[\{"role":"system","parts":\[(.*?)\]\}'))
    scan = reader.scan(*window, owner).filter(pl.col("otel_ir.agent.id_source") != "none")
    rows = scan.select(_AGENT, "service.name", "span_id", prompt.alias("prompt"), pl.col("gen_ai.tool.name").alias("tool"))
    known, used = pl.col("prompt").is_not_null(), pl.col("tool").is_not_null()
    grouped = rows.group_by(_AGENT).agg(
        (pl.col("service.name").first() != facts.service).alias("other"),
        pl.col("prompt").filter(known).unique().sort().head(8).alias("prompts"),
        pl.col("span_id").filter(known).first().alias("prompt_span"),
        pl.col("tool").filter(used).unique().sort().head(200).alias("tools"),
        pl.col("span_id").filter(used).first().alias("tool_span"),
    )
    return grouped.sort("other", _AGENT).head(MAX_FLEET).select(FLEET_SCHEMA.names()).collect()


def _missing(facts: IncidentFacts, events: pl.DataFrame) -> tuple[str, ...]:
    cited: Sequence[str] = sorted({ref.span_id for one in facts.alerts for ref in one.alert.contributing} - {""})
    there = set(events["span_id"].to_list())
    missing = [span for span in cited if span not in there]
    if not missing:
        return ()
    what = f"{len(missing):,} of {len(cited):,} events that the alerts cite are not in the evidence"
    return (f"{what}: not flushed yet (the server writes every few seconds; ask again), or removed since",)
