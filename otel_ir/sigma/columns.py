"""How a rule reads a field, whatever the type of its column: as text, lower-case text, number, truth, time or presence.

Nothing here can raise on data: what a value cannot be read as is null, and a test of null does not match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import polars as pl

from otel_ir.errors import RuleError
from otel_ir.model import EVENT_SCHEMA

MAX_TESTS = 5000
"""Tests of columns that one rule may ask for; a list of values that are equally compared is one."""

View = Callable[[pl.Expr, pl.DataType], pl.Expr]
Test = Callable[[pl.Expr], pl.Expr]

KEYWORD_COLUMNS = (
    "otel_ir.span.name", "service.name", "gen_ai.agent.name", "user.id", "gen_ai.tool.name", "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result", "error.type", "error.message", "gen_ai.request.model", "gen_ai.system_instructions",
    "gen_ai.input.messages", "gen_ai.output.messages", "otel_ir.handoff.from", "otel_ir.handoff.to", "otel_ir.guardrail.name",
)  # fmt: skip
"""Where a keyword (a value without a field) is looked for: columns of words. Ids in hex would match by chance."""

SIGMA, FINAL_SIGMA = "\u03c3", "\u03c2"
PRESENCE = "\x00present"
"""Suffix of a Boolean column that says whether the event had the field at all, where a source can tell that from null."""


def event_dtype(name: str) -> pl.DataType:
    """Type of a column of the event frame. Beyond ``EVENT_SCHEMA``: lengths of arguments are numbers, every other attribute is text."""
    known = EVENT_SCHEMA.get(name)
    if known is not None:
        return known if isinstance(known, pl.DataType) else known()
    return pl.Int64() if name.startswith("otel_ir.arguments.") and name.endswith(".length") else pl.String()


def event_frame(frame: pl.DataFrame, names: Iterable[str]) -> pl.DataFrame:
    """``frame`` with a null column for each of ``names`` that it lacks."""
    missing = [name for name in names if name not in frame.columns]
    return frame.with_columns(pl.lit(None, event_dtype(name)).alias(name) for name in missing) if missing else frame


def as_text(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if dtype == pl.String:
        return value
    if dtype.is_numeric() or dtype == pl.Boolean:
        return value.cast(pl.String)
    return pl.lit(None, pl.String)


def as_lower(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    return value.str.to_lowercase() if dtype == pl.String else as_text(value, dtype)


def as_folded(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Lower case with one sigma: Unicode lower-cases the Greek capital by its place in the word, so a part of a word would not match."""
    return as_lower(value, dtype).str.replace_all(FINAL_SIGMA, SIGMA, literal=True)


def as_number(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if dtype.is_numeric():
        return value
    if dtype != pl.String:
        return pl.lit(None, pl.Float64)
    number = value.cast(pl.Float64, strict=False)
    return pl.when(number.is_finite()).then(number)


def as_time(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Times of events are nanoseconds; texts are read as they stand, their zone is not converted (Sigma appendix, "Time Modifiers")."""
    if dtype.is_integer():
        return pl.from_epoch(value, time_unit="ns")
    written = as_text(value, dtype).str.slice(0, 19).str.replace(" ", "T", literal=True)
    return written.str.to_datetime("%Y-%m-%dT%H:%M:%S", strict=False)


SHARED: Mapping[str, View] = {"lower": as_lower, "folded": as_folded}
"""Views of text columns that are dear and that many rules look through."""
_SHARED = {view: name for name, view in SHARED.items()}


def shared_name(view: str, column: str) -> str:
    """Under which name a frame has a view of a column."""
    return f"\x00{view}\x00{column}"


@dataclass(slots=True)
class Columns:
    """The columns that rules are compiled for, and a record of those that were used.

    ``dtypes`` maps a name to its type; ``default`` answers for the rest. A column of lists matches where any element does.
    ``presence``: the frame has ``PRESENCE`` columns. ``views``, where given, receives (view, column) of ``SHARED``: what is compiled reads
    these by their ``shared_name``.
    """

    dtypes: Mapping[str, pl.DataType] = field(default_factory=dict)
    default: Callable[[str], pl.DataType] = event_dtype
    keywords: tuple[str, ...] = KEYWORD_COLUMNS
    presence: bool = False
    used: set[str] = field(default_factory=set)
    tests: int = 0
    views: set[tuple[str, str]] | None = None

    def dtype(self, name: str) -> pl.DataType:
        known = self.dtypes.get(name)
        return self.default(name) if known is None else known

    def test(self, name: str, view: View, test: Test) -> pl.Expr:
        """``test`` of the values of the column ``name`` seen as ``view``. ``RuleError`` where a rule asks for too many."""
        self.used.add(name)
        self.tests += 1
        if self.tests > MAX_TESTS:
            raise RuleError(f"more than {MAX_TESTS} tests", hint="values that any may match are one test: use lists without 'all'")
        dtype = self.dtype(name)
        if isinstance(dtype, pl.List):
            return pl.col(name).list.eval(test(view(pl.element(), pl.String()))).list.any()
        if self.views is not None and view in _SHARED and dtype == pl.String:
            self.views.add((_SHARED[view], name))
            return test(pl.col(shared_name(_SHARED[view], name)))
        return test(view(pl.col(name), dtype))

    def test_keywords(self, view: View, test: Test) -> pl.Expr:
        """``test`` of any column that holds words."""
        return pl.any_horizontal([pl.lit(value=False), *(self.test(name, view, test) for name in self.keywords)])

    def is_null(self, name: str) -> pl.Expr:
        self.used.add(name)
        return pl.col(name).is_null()

    def exists(self, name: str) -> pl.Expr:
        column = name + PRESENCE if self.presence else name
        self.used.add(column)
        return pl.col(column).fill_null(value=False) if self.presence else pl.col(column).is_not_null()
