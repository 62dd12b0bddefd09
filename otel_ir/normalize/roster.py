"""Who is out there: what events say of each agent, so that agents that look alike can be found.

Outside the fold: no alert depends on it, and what is lost by a restart comes again with the next call.
"""

from __future__ import annotations

import hashlib

import polars as pl

from otel_ir.normalize.slots import solid

_NAMES = pl.List(pl.String())
ROSTER_SCHEMA = pl.Schema(
    [
        ("tenant", pl.String()),
        ("agent_id", pl.String()),
        ("service", pl.String()),
        ("name", pl.String()),
        ("fingerprint", pl.String()),  # of the newest system prompt, null while none was seen
        ("tools", _NAMES),  # sorted names of the tools it called
        ("models", _NAMES),
        ("dialects", _NAMES),  # what its telemetry is written in
        ("first_seen", pl.Int64()),  # event time, ns
        ("last_seen", pl.Int64()),
    ]
)
MAX_NAMES = 256
"""Tools, models and dialects of an agent, the first by name."""
MAX_PROMPT = 1 << 14
"""Characters of a system prompt that are looked at."""
MAX_PROMPTS = 1024
"""Different prompts of one call that are looked at, the first to come."""
MAX_WAITING = 100_000
UNNAMED = "/-"
"""What stands after the service in the id of agents that nothing names."""

_EVENT, _AGENT, _SOURCE = "otel_ir.event.id", "otel_ir.agent.id", "otel_ir.agent.id_source"
_DERIVED = "messages"
"""In place of a dialect on calls that only messages of a model told of."""
_PROMPT, _MESSAGES = "gen_ai.system_instructions", "gen_ai.input.messages"
_FIRST = (
    r'(?s)^\s*\[\s*\{\s*"role"\s*:\s*"(?:system|developer)"\s*,\s*"(?:parts|content)"\s*:\s*(.*?)'
    r'(?:\}\s*,\s*\{\s*"role"|\}\s*\]\s*$|$)'
)
"""The first message, if it is the system prompt; its quotes are escaped, so what ends it cannot stand in it."""
_PATCHED = (_AGENT, _SOURCE, "gen_ai.agent.name")
_SAYS = (_EVENT, "tenant", "service.name", *_PATCHED, "tool", "model", "dialect", "fingerprint")
_SAYS_SCHEMA = pl.Schema([*((name, pl.String()) for name in _SAYS), ("time", pl.Int64())])
_WAITING_SCHEMA = pl.Schema([*_SAYS_SCHEMA.items(), ("since", pl.Float64())])
# What a template fills in, to "#": ids, whatever has a digit, and the words of a date; then what only stands between such.
_FILLED = (
    r"(?i)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b",
    r"[\w-]*\d[\w-]*",
    r"\b(?:january|february|march|april|may|june|july|august|september|october|november|december)\b",
    r"\b(?:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tues?|wed|thu(?:rs)?|fri|sat|sun)\b",
    r"\b(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday|am|pm|utc|gmt)\b",
    r"#(?:[\s#.,:/+-]*#)+",
)


def normalized(prompt: pl.Expr) -> pl.Expr:
    """A prompt without what differs from one filling-in of a template to the next: white space, case, numbers, ids and dates."""
    text = prompt.str.slice(0, MAX_PROMPT).str.replace_all(r"\\[nrt]", " ").str.to_lowercase()
    for pattern in _FILLED:
        text = text.str.replace_all(pattern, "#")
    return text.str.replace_all(r"\s+", " ").str.strip_chars(" ")


def fingerprints(prompts: pl.Series) -> pl.Series:
    """SHA-256 (hex) of each normalized prompt; null where there is none, and beyond ``MAX_PROMPTS`` different ones."""
    if prompts.null_count() == len(prompts):
        return prompts
    distinct = prompts.drop_nulls().unique(maintain_order=True).head(MAX_PROMPTS)
    texts = pl.DataFrame({"prompt": distinct}).select(normalized(pl.col("prompt")))["prompt"]
    hashed = [hashlib.sha256(text.encode()).hexdigest() for text in texts.to_list()]
    return prompts.replace_strict(distinct, pl.Series(hashed, dtype=pl.String), default=None, return_dtype=pl.String)


def prompts(events: pl.DataFrame) -> pl.Series:
    """The system prompt of each event: the attribute of its own, else the first message, if that is the system's."""
    own, messages = events[_PROMPT], events[_MESSAGES]
    if messages.null_count() == len(messages):
        return own
    first = pl.col(_MESSAGES).str.slice(0, 2 * MAX_PROMPT).str.extract(_FIRST)
    return events.select(pl.coalesce(pl.col(_PROMPT), pl.when(pl.col(_PROMPT).is_null()).then(first)))[_PROMPT]


def roster_of(events: pl.DataFrame) -> pl.DataFrame:
    """Events (``EVENT_SCHEMA``) -> what they say of each agent that is known, by tenant and agent id in order (``ROSTER_SCHEMA``)."""
    return _grouped(_says(events))


class Roster:
    """``roster_of`` for a stream in which agents become known later. Bounded: of too many unnamed events the oldest are forgotten."""

    def __init__(self, max_waiting: int = MAX_WAITING) -> None:
        self._most, self._waiting = max_waiting, _WAITING_SCHEMA.to_frame()

    def take(self, events: pl.DataFrame, patches: pl.DataFrame, at: float = 0.0) -> pl.DataFrame:
        """Events and patches as the fold gives them for a frame, and the time (s) -> what is new of agents (``ROSTER_SCHEMA``)."""
        said = _says(events)
        rows = [said]
        if patches.height:
            now = patches.unique(_EVENT, keep="last", maintain_order=True).select(_EVENT, *_PATCHED)
            held = pl.concat([self._waiting.drop("since"), said.filter(_unknown())])
            rows.insert(0, held.drop(_PATCHED).join(now, on=_EVENT, how="inner", maintain_order="left").select(_SAYS_SCHEMA.names()))
            self._waiting = self._waiting.join(rows[0].filter(~_unknown()), on=_EVENT, how="anti", maintain_order="left")
            said = said.join(rows[0].filter(~_unknown()), on=_EVENT, how="anti", maintain_order="left")
        still = solid(said.filter(_unknown())).with_columns(pl.lit(at).alias("since"))
        self._waiting = pl.concat([self._waiting, still]).tail(self._most)
        return _grouped(pl.concat(rows))

    def waiting(self) -> pl.DataFrame:
        """What ``unnamed`` may give one day: tenants and services (``tenant``, ``service.name``), a row an event."""
        return self._waiting.filter(pl.col("service.name") != "").select("tenant", "service.name")

    def unnamed(self, before: float) -> pl.DataFrame:
        """What came before that time and has no name yet, as what one agent of its service did (``SERVICE/-``); it waits no longer."""
        late = pl.col("since") < before
        given_up = self._waiting.filter(late & (pl.col("service.name") != ""))
        self._waiting = self._waiting.filter(~late)
        return _grouped(
            given_up.drop("since").with_columns((pl.col("service.name") + UNNAMED).alias(_AGENT), pl.lit("resource").alias(_SOURCE))
        )


def _unknown() -> pl.Expr:
    return pl.col(_SOURCE).is_null() | (pl.col(_SOURCE) == "none") | pl.col(_AGENT).is_null()


def _says(events: pl.DataFrame) -> pl.DataFrame:
    """What each event says of its agent (``_SAYS_SCHEMA``)."""
    tool = pl.when(pl.col("event.type") == "tool_call").then("gen_ai.tool.name")
    once = pl.col("otel_ir.duplicate_of").is_null()
    fingerprint = fingerprints(prompts(events)).alias("fingerprint")
    said = events.lazy().with_columns(fingerprint).filter(once)
    return said.select(
        _EVENT,
        pl.col("otel_ir.tenant").fill_null("").alias("tenant"),
        pl.col("service.name").fill_null(""),
        *_PATCHED,
        tool.alias("tool"),
        pl.coalesce("gen_ai.request.model", "gen_ai.response.model").alias("model"),
        pl.when(pl.col("otel_ir.dialect") != _DERIVED).then("otel_ir.dialect").alias("dialect"),
        "fingerprint",
        pl.col("event_time").alias("time"),
    ).collect()


def _grouped(said: pl.DataFrame) -> pl.DataFrame:
    found = said.lazy().filter(~_unknown()).group_by("tenant", pl.col(_AGENT).alias("agent_id"))
    rows = found.agg(
        pl.col("service.name").last().alias("service"),
        pl.col("gen_ai.agent.name").drop_nulls().last().alias("name"),
        pl.col("fingerprint").drop_nulls().last(),
        *(pl.col(one).drop_nulls().unique().sort().head(MAX_NAMES).alias(f"{one}s") for one in ("tool", "model", "dialect")),
        pl.col("time").min().alias("first_seen"),
        pl.col("time").max().alias("last_seen"),
    )
    return rows.sort("tenant", "agent_id").select(ROSTER_SCHEMA.names()).collect()


__all__ = ["ROSTER_SCHEMA", "UNNAMED", "Roster", "fingerprints", "normalized", "prompts", "roster_of"]
