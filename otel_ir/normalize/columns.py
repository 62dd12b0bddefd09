"""The computed half of an event, out of what was read: time, error, execution, sizes, missing content.

Columns that begin with ``_`` are helpers which ``rows.py`` puts beside the canonical ones. What few words can say (execution, content) is
computed as numbers, which choose among the words at the end; what only failures have is looked for on failures.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import polars as pl

from otel_ir.decode.values import Index
from otel_ir.model import EVENT_COLUMNS
from otel_ir.normalize.dialects import DIALECTS
from otel_ir.normalize.few import FEW, Mask, contains_any, is_among, is_null
from otel_ir.normalize.sources import nulls, pick

Columns = Mapping[str, pl.Series]
LOG_MARK = "#log:"
"""Stands in the id of every event that a log record brought."""
FUTURE = 300_000_000_000
"""How far (ns) an event may lie after its receive time: 5 minutes (DESIGN section 1)."""
_UNSPECIFIC = ["_OTHER", "unknown", "Exception"]
"""Values of ``error.type`` that say less than an exception event or the message does (reference, section 6)."""
_ERROR_CLASS = r"^\s*(?:\w+\.)*([A-Z]\w*(?:Error|Exception|Timeout|Failure|Interrupt|Exit))\b"
SCRUBBED = ("[Scrubbed due to ", "[REDACTED]", "__REDACTED__", "<REDACTED>", "<elided>")
_LIMITS = [1000, 1024, 2000, 2048, 4000, 4096, 8000, 8192, 10000, 16000, 16384, 32000, 32768, 65535, 65536]
"""Attribute length limits in use. SDKs cut at ``OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT`` without a mark; below 1,000 characters plain text
that happens to be as long as a limit is taken for whole (cut JSON shows at any length)."""
_FLAGS = ("absent", "truncated", "scrubbed", "dropped")
CONTENT = ("gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "gen_ai.input.messages", "gen_ai.output.messages")
"""Columns that hold what was said and done."""
_JSON = r'\A\s*[{\["]'
_CUT_JSON = r'(?s)\A\s*(?:\{(?:.*[^}\s])?|\[(?:.*[^\]\s])?|"(?:.*[^"\s])?)\s*\z'
_WORD = ((pl.col("text") >= "0") & (pl.col("text") < "[")) | ((pl.col("text") >= "\\") & (pl.col("text") < "{"))
_WHOLE = pl.col("text").str.starts_with("{") & pl.col("text").str.ends_with("}")
_ODD = (~(_WHOLE | (_WORD & (pl.col("text").str.len_bytes() < _LIMITS[0])))).fill_null(value=False)
"""What has to be looked at closely: no object, and neither a text that begins like a word and is too short to have been cut."""
_UUID = r"(?i)(?:^|[_/:-])[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$"
_MATCHED = 1024
"""Characters of an error text that are matched against patterns."""
_EXECUTED = (None, "yes", *sorted({word for one in DIALECTS for word in (one.executed, one.unproven)} - {"yes"}))
_RAN = _EXECUTED.index("yes")
_SHOWN, _SILENT = (np.array([_EXECUTED.index(getattr(one, name)) for one in DIALECTS]) for name in ("executed", "unproven"))
_SIZES = {"otel_ir.arguments.size": "gen_ai.tool.call.arguments", "otel_ir.result.size": "gen_ai.tool.call.result"}
"""Characters, as stated or as they are; null where neither is known."""


def computed(found: Columns, failed: Mask) -> dict[str, pl.Series]:
    """``found``: what was read, and the helper columns; ``failed``: rows with a sign of failure -> the columns that are computed."""
    made = _errors(found, failed)
    failed = made["error"].to_numpy()
    made["otel_ir.executed"], ran = _executed(found, failed)
    made["otel_ir.content"] = _content(found, ran & ~failed)
    time, received = found["_time"].to_numpy(), found["_received"].to_numpy()
    made["event_time"] = pl.Series(np.minimum(np.where(time <= 0, received, time), received + FUTURE))
    return made | _texts(found)


def _texts(found: Columns) -> dict[str, pl.Series]:
    """The event's and the agent's id, and sizes."""
    size = len(found["trace_id"])
    names = ["trace_id", "span_id", "service.name", "gen_ai.agent.name", *_SIZES, *_SIZES.values()]
    wanted = {"otel_ir.event.id": _span(), **{one: _sized(one) for one in _SIZES if found[_SIZES[one]].null_count() < size}}
    if any(found[name].null_count() < size and (found[name] != "").any() for name in ("otel_ir.tenant", "otel_ir.sender")):
        names += ["otel_ir.tenant", "otel_ir.sender"]
        wanted["otel_ir.event.id"] = scoped_id("otel_ir.tenant", "otel_ir.sender")
    known = pl.col("gen_ai.agent.name")
    if found["gen_ai.agent.id"].null_count() < size:
        names.append("gen_ai.agent.id")
        wanted["gen_ai.agent.id"] = stable_id("gen_ai.agent.id")
        known = pl.coalesce(wanted["gen_ai.agent.id"], known)
    if "gen_ai.agent.id" in wanted or found["gen_ai.agent.name"].null_count() < size:
        wanted["otel_ir.agent.id"] = pl.concat_str(pl.col("service.name").fill_null(""), pl.lit("/"), known)
    frame = pl.DataFrame([found[name].alias(name) for name in names])
    frame = frame.select_seq(**wanted) if size <= FEW else frame.select(**wanted)
    made = dict(zip(frame.columns, frame.get_columns(), strict=True))
    agents = made.setdefault("otel_ir.agent.id", nulls(size))
    return made | {"otel_ir.agent.id_source": pick(_SOURCES, (~is_null(agents)).astype(np.uint32))}


_SOURCES = pl.Series(["none", "own"], dtype=pl.String)


def _sized(name: str) -> pl.Expr:
    return pl.coalesce(name, pl.col(_SIZES[name]).str.len_chars().cast(pl.Int64))


def event_time() -> pl.Expr:
    """``_time``, but 0 (unknown) and what is no time at all mean received; never later than received + 5 minutes."""
    known = pl.when(pl.col("_time") <= 0).then("_received").otherwise("_time")
    return pl.min_horizontal(known, pl.col("_received") + FUTURE).alias("event_time")


def scoped_id(tenant: str, sender: str) -> pl.Expr:
    """``model.scoped`` as an expression."""
    who = [pl.col(name).fill_null("") for name in (tenant, sender)]
    known = (who[0] != "") | (who[1] != "")
    return pl.when(known).then(pl.concat_str(*who, _span(), separator="~")).otherwise(_span())


def _span() -> pl.Expr:
    return pl.concat_str(pl.col("trace_id").fill_null(""), pl.lit("/"), pl.col("span_id").fill_null(""))


def log_id() -> pl.Expr:
    """A log record has no id of its own; its place, name, time and call are the same when a sender repeats it."""
    call = (
        pl.when(pl.col("gen_ai.tool.call.id").is_not_null()).then(pl.concat_str(pl.lit(":"), "gen_ai.tool.call.id")).otherwise(pl.lit(""))
    )
    name = pl.col("otel_ir.span.name").fill_null("")
    return pl.concat_str("otel_ir.event.id", pl.lit(LOG_MARK), name, pl.lit(":"), "_time", call).alias("otel_ir.event.id")


def stable_id(name: str) -> pl.Expr:
    """Drops UUIDs: they name one run or one object in memory, and a new one comes with every restart (reference, section 4)."""
    return pl.when(~pl.col(name).str.contains(_UUID)).then(name).alias(name)


def _errors(found: Columns, failed: Mask) -> dict[str, pl.Series]:
    """``error``: as stated, else as the row shows, without what its dialect calls expected behavior. ``error.type``: as stated unless that
    says nothing, else the exception event's type, else the class that a message begins with. ``error.message``:
    where nothing else has one, the beginning of what a tool answered.
    """
    rows = np.flatnonzero(failed)
    if len(rows):
        failed = failed.copy()
        failed[rows[_forgiven(pl.DataFrame([pick(found[name], rows).alias(name) for name in _OF_FAILURE]))]] = False
    stated = found["error"]
    if stated.null_count() < len(failed):
        failed = np.where(is_null(stated), failed, stated.fill_null(value=False).to_numpy())
    rows = np.flatnonzero(failed)
    made = {"error": pl.Series(failed), "error.type": nulls(len(failed)), "error.message": found["error.message"]}
    if len(rows):
        names = ("error.type", "error.message", *_OF_FAILURE, _ANSWER)
        said = pl.DataFrame([pick(found[name], rows).alias(name) for name in names]).select(_KIND, _REASON)
        made["error.type"] = _put(nulls(len(failed)), rows, said["error.type"])
        made["error.message"] = _put(found["error.message"], rows, said["error.message"])
    return made


_OF_FAILURE, _ANSWER = ("_dialect", "_exception", "_text", "_message"), "gen_ai.tool.call.result"
_KIND = pl.coalesce(
    pl.when(~pl.col("error.type").is_in(_UNSPECIFIC)).then("error.type"),
    pl.when(pl.col("_exception") != "Exception").then("_exception"),
    pl.col("_message").str.slice(0, _MATCHED).str.extract(_ERROR_CLASS),
    pl.col("error.type"),
    pl.col("_exception"),
).alias("error.type")
_REASON = pl.coalesce("error.message", "_text", "_message", pl.col(_ANSWER).str.slice(0, _MATCHED))


def _put(column: pl.Series, rows: Index, values: pl.Series) -> pl.Series:
    """The column with these values in these rows."""
    slots = np.arange(len(column))
    slots[rows] = len(column) + np.arange(len(rows))
    return pick(pl.concat([column, values], rechunk=True), slots)


def _forgiven(failing: pl.DataFrame) -> Mask:
    """Which failures a dialect calls expected behavior, by exception type, exception message or status message."""
    return failing.select(_expected(tuple(failing["_dialect"].unique().sort().to_list()))).to_series().to_numpy()


@cache
def _expected(dialects: tuple[int, ...]) -> pl.Expr:
    expected = pl.repeat(False, pl.len(), dtype=pl.Boolean)
    for index in dialects:
        if DIALECTS[index].not_errors:
            pattern = "|".join(DIALECTS[index].not_errors)
            texts = (pl.col(name).str.slice(0, _MATCHED).str.contains(pattern) for name in ("_exception", "_text", "_message"))
            expected |= (pl.col("_dialect") == index) & pl.any_horizontal(text.fill_null(value=False) for text in texts)
    return expected


def _executed(found: Columns, failed: Mask) -> tuple[pl.Series, Mask]:
    """How far a tool call got, and whether it ran: a span is no proof of execution, a result or an error is."""
    dialects = found["_dialect"].to_numpy()
    given, back = (~is_null(found[name]) for name in CONTENT[:2])
    words = np.where(given, _SHOWN[dialects], _SILENT[dialects])
    words[back | failed] = _RAN
    words[~is_among(found["event.type"], ("tool_call",))] = 0
    executed, stated = pick(_EXECUTED_WORDS, words), found["otel_ir.executed"]
    if stated.null_count() == len(stated):
        return executed, words == _RAN
    executed = executed.zip_with(stated.is_null(), stated)
    return executed, is_among(executed, ("yes",))


_EXECUTED_WORDS = pl.Series(_EXECUTED, dtype=pl.String)


def _content(found: Columns, ran: Mask) -> pl.Series:
    """``absent``, ``truncated``, ``scrubbed``, ``dropped``, comma-separated in that order; null where nothing is missing."""
    arguments, result, inward, outward = (is_null(found[name]) for name in CONTENT)
    tool, model = (is_among(found["event.type"], (kind,)) for kind in ("tool_call", "model_output"))
    cut, scrubbed = np.zeros(len(ran), dtype=np.bool_), np.zeros(len(ran), dtype=np.bool_)
    for name in CONTENT:
        if found[name].null_count() < len(ran):
            cut[cut_rows(found[name])] = True
            scrubbed |= contains_any(found[name], SCRUBBED)
    absent = (tool & (arguments | (result & ran))) | (model & inward & outward)
    number = np.zeros(len(ran), dtype=np.uint32)
    for bit, flag in enumerate((absent, cut, scrubbed, found["_dropped"].to_numpy() > 0)):
        number |= flag.astype(np.uint32) << np.uint32(bit)
    return pick(_CONTENT_WORDS, number)


def flags(*said: int) -> str | None:
    """``otel_ir.content`` of one event: which of absent, truncated, scrubbed, dropped it is."""
    return ",".join(name for name, is_so in zip(_FLAGS, said, strict=True) if is_so) or None


_CONTENT_WORDS = pl.Series([flags(*(value >> bit & 1 for bit in range(len(_FLAGS)))) for value in range(1 << len(_FLAGS))], dtype=pl.String)


def cut_rows(text: pl.Series) -> Index:
    """Rows whose text was cut: JSON that does not end, or plain text exactly as long as a common limit.

    Nearly every text is an object that begins and ends as one; only the others are looked at closely.
    """
    if len(text) <= FEW:
        odd = np.array([row for row, one in enumerate(text.to_list()) if one and _may_be_cut(one)], dtype=np.int64)
    else:
        odd = np.flatnonzero(pl.DataFrame([text.alias("text")]).select(_ODD)["text"].to_numpy())
    if not len(odd):
        return odd
    close = pl.DataFrame([pick(text, odd).alias("text")]).select(_is_cut(pl.col("text")))
    return np.compress(close["text"].to_numpy(), odd)


def _may_be_cut(text: str) -> bool:
    """Whether it is worth asking ``_is_cut``: Python takes more characters for white space than the regular expressions do."""
    if text[0] == "{" and text[-1] == "}":
        return False
    return text.lstrip()[:1] in ("{", "[", '"') or len(text) in _LIMITS


def _is_cut(text: pl.Expr) -> pl.Expr:
    return text.str.contains(_CUT_JSON) | (text.str.len_chars().is_in(_LIMITS) & ~text.str.contains(_JSON))


def typed(name: str) -> pl.Expr:
    """The text of a stated column as the column's type; what cannot be read is null."""
    dtype = EVENT_COLUMNS[name].dtype
    if dtype == pl.Int64:
        return pl.coalesce(
            pl.col(name).cast(pl.Int64, strict=False), pl.col(name).cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)
        )
    if dtype == pl.Boolean:
        lower = pl.col(name).str.to_lowercase()
        return (
            pl.when(lower.is_in(["true", "1"]))
            .then(pl.lit(value=True))
            .when(lower.is_in(["false", "0"]))
            .then(pl.lit(value=False))
            .alias(name)
        )
    return pl.col(name)
