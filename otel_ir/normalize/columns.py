"""The computed half of an event, as Polars expressions over what was read: time, error, execution, sizes, missing content.

Columns that begin with ``_`` are helpers which ``rows.py`` puts beside the canonical ones.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import polars as pl

from otel_ir.decode.values import Index
from otel_ir.model import EVENT_COLUMNS
from otel_ir.normalize.dialects import DIALECTS
from otel_ir.normalize.few import FEW, Mask, contains_any
from otel_ir.normalize.sources import pick

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


def event_time() -> pl.Expr:
    """``_time``, but 0 (unknown) and what is no time at all mean received; never later than received + 5 minutes."""
    known = pl.when(pl.col("_time") <= 0).then("_received").otherwise("_time")
    return pl.min_horizontal(known, pl.col("_received") + FUTURE).alias("event_time")


def event_id() -> pl.Expr:
    """``trace/span`` within tenant and sender (``model.scoped``)."""
    return scoped_id("otel_ir.tenant", "otel_ir.sender").alias("otel_ir.event.id")


def scoped_id(tenant: str, sender: str) -> pl.Expr:
    """``model.scoped`` as an expression."""
    span = pl.concat_str(pl.col("trace_id").fill_null(""), pl.lit("/"), pl.col("span_id").fill_null(""))
    who = [pl.col(name).fill_null("") for name in (tenant, sender)]
    known = (who[0] != "") | (who[1] != "")
    return pl.when(known).then(pl.concat_str(*who, span, separator="~")).otherwise(span)


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


def agent() -> list[pl.Expr]:
    """``service.name/stable id or name``, and whether the event says so itself."""
    known = pl.coalesce("gen_ai.agent.id", "gen_ai.agent.name")
    return [
        pl.concat_str(pl.col("service.name").fill_null(""), pl.lit("/"), known).alias("otel_ir.agent.id"),
        pl.when(known.is_not_null()).then(pl.lit("own")).otherwise(pl.lit("none")).alias("otel_ir.agent.id_source"),
    ]


def forgiven(failing: pl.DataFrame) -> Mask:
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


def no_errors() -> list[pl.Expr]:
    """``errors`` for a frame in which nothing failed and nobody states an error."""
    return [pl.lit(value=False).alias("error"), pl.lit(None, dtype=pl.String).alias("error.type")]


def errors() -> list[pl.Expr]:
    """``error``: as stated, else ``_failed``. ``error.type``: as stated unless that says nothing, else the exception event's type, else the
    class that a message begins with.
    """
    failed = pl.coalesce("error", "_failed")
    kinds = (
        pl.when(~pl.col("error.type").is_in(_UNSPECIFIC)).then("error.type"),
        pl.when(pl.col("_exception") != "Exception").then("_exception"),
        pl.col("_message").str.slice(0, _MATCHED).str.extract(_ERROR_CLASS),
        pl.col("error.type"),
        pl.col("_exception"),
    )
    return [
        failed.alias("error"),
        pl.when(failed).then(pl.coalesce(*kinds)).alias("error.type"),
        pl.coalesce("error.message", pl.when(failed).then(pl.coalesce("_text", "_message"))).alias("error.message"),
    ]


@cache
def executed() -> pl.Expr:
    """How far a tool call got: a span is no proof of execution, a result or an error is."""
    shown, silent = ([getattr(one, name) for one in DIALECTS] for name in ("executed", "unproven"))
    by_dialect = [pl.lit(pl.Series(words, dtype=pl.String)).gather(pl.col("_dialect")) for words in (shown, silent)]
    inferred = (
        pl.when(pl.col("gen_ai.tool.call.result").is_not_null() | pl.col("error"))
        .then(pl.lit("yes"))
        .when(pl.col("gen_ai.tool.call.arguments").is_not_null())
        .then(by_dialect[0])
        .otherwise(by_dialect[1])
    )
    return pl.coalesce("otel_ir.executed", pl.when(_is("tool_call")).then(inferred)).alias("otel_ir.executed")


def sizes() -> list[pl.Expr]:
    """Characters of arguments and result, as stated or as they are; null where neither is known."""
    return [
        pl.coalesce(size, pl.col(name).str.len_chars().cast(pl.Int64)).alias(size)
        for name, size in (
            ("gen_ai.tool.call.arguments", "otel_ir.arguments.size"),
            ("gen_ai.tool.call.result", "otel_ir.result.size"),
        )
    ]


@cache
def content(shown: tuple[str, ...]) -> pl.Expr:
    """``absent``, ``truncated``, ``scrubbed``, ``dropped``, comma-separated in that order; null where nothing is missing.

    ``shown``: those of ``CONTENT`` in which something scrubbed may be found.
    """
    arguments, result, inward, outward = (pl.col(name).is_null() for name in CONTENT)
    ran = (pl.col("otel_ir.executed") == "yes") & ~pl.col("error")
    absent = (_is("tool_call") & (arguments | (result & ran))) | (_is("model_output") & inward & outward)
    scrubbed = pl.any_horizontal(False, *(pl.col(name).str.contains_any(list(SCRUBBED)).fill_null(value=False) for name in shown))
    number = pl.lit(0, dtype=pl.UInt32)
    for bit, flag in enumerate((absent.fill_null(value=False), pl.col("_cut"), scrubbed, pl.col("_dropped") > 0)):
        number += flag.cast(pl.UInt32) * (1 << bit)
    # Four flags make sixteen texts: a lookup, instead of text work on every row.
    words = [flags(*(value >> bit & 1 for bit in range(len(_FLAGS)))) for value in range(1 << len(_FLAGS))]
    return pl.lit(pl.Series(words, dtype=pl.String)).gather(number).alias("otel_ir.content")


def flags(*said: int) -> str | None:
    """``otel_ir.content`` of one event: which of absent, truncated, scrubbed, dropped it is."""
    return ",".join(name for name, is_so in zip(_FLAGS, said, strict=True) if is_so) or None


def _is(kind: str) -> pl.Expr:
    return pl.col("event.type") == kind


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


def scrubbed(frame: pl.DataFrame, shown: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the columns ``shown`` that ``content`` has to look at."""
    if frame.height > FEW:
        return shown
    return tuple(name for name in shown if contains_any(frame[name], SCRUBBED).any())


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
