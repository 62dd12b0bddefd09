"""Whatever a file says, loading gives rules or errors with a place; it never raises, and never takes long."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ir.sigma.correlate import KINDS
from otel_ir.sigma.extensions import CORRELATION_EXTENSIONS, CORRELATION_KEYS, RULE_EXTENSIONS, RULE_KEYS
from otel_ir.sigma.lint import lint
from otel_ir.sigma.load import load_library
from otel_ir.sigma.match import matches
from otel_ir.sigma.testing import check_tests
from otel_ir.sigma.words import explain

RULE: dict[str, Any] = {
    "title": "t",
    "id": "6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a01",
    "name": "r",
    "logsource": {"product": "opentelemetry", "category": "ai_agent"},
    "detection": {"sel": {"gen_ai.tool.name|contains": ["a"]}, "condition": "sel"},
}
CORRELATION: dict[str, Any] = {
    "title": "c",
    "id": "6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a02",
    "correlation": {"type": "event_count", "rules": ["r"], "group-by": ["user.id"], "timespan": "1m", "condition": {"gt": 3}},
}
WORDS = st.sampled_from(
    ["", "a", "sel", "r", "1m", "*", "(?=x)", "[", "not sel", "1 of them", "5", "%x%", "1.2.3.4/8", "\u00e9", "event_count", "temporal"]
)
SCALARS = st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats(allow_nan=True) | WORDS | st.dates()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=6)
MODIFIERS = [
    "contains",
    "all",
    "re",
    "i",
    "cidr",
    "lt",
    "exists",
    "fieldref",
    "base64",
    "windash",
    "cased",
    "neq",
    "expand",
    "hour",
    "startswith",
    "x",
]
FIELDS = st.tuples(st.sampled_from(["", "f", "error", "event_time"]), st.lists(st.sampled_from(MODIFIERS), max_size=3)).map(
    lambda pair: "|".join([pair[0], *pair[1]])
)
DETECTION = st.fixed_dictionaries(
    {"condition": WORDS | VALUES}, optional={"sel": st.dictionaries(FIELDS, VALUES, max_size=3) | VALUES, "a": VALUES}
)
SECTION = st.dictionaries(
    st.sampled_from(["type", "rules", "group-by", "timespan", "condition", "aliases", "generate", "x"]), VALUES, max_size=7
)
NAMES = st.sampled_from(["r", "c", "nobody", "user.id", "who", "gen_ai.usage.input_tokens"])
COMPARED = st.dictionaries(
    st.sampled_from(["gt", "gte", "lt", "lte", "eq", "neq"]), st.integers(-1, 5) | st.floats() | WORDS, min_size=1, max_size=2
)
LIKELY = st.fixed_dictionaries(
    {
        "type": st.sampled_from([*KINDS, "x"]),
        "condition": st.tuples(COMPARED, st.dictionaries(st.sampled_from(["field", "percentile"]), NAMES | st.integers(1, 100)))
        .map(lambda pair: pair[0] | pair[1]) | st.sampled_from(["r", "not r", "r and not c", "(r or c) and r", "r or"]) | st.none(),
    },
    optional={
        "rules": st.lists(NAMES, max_size=4),
        "group-by": st.lists(NAMES, max_size=3),
        "aliases": st.dictionaries(NAMES, st.dictionaries(NAMES, NAMES, max_size=2), max_size=2),
    },
)  # fmt: skip
"""What correlations look like: valid now and then."""
EXTENSIONS = {
    "within-events": st.integers(1, 9),
    "baseline": st.fixed_dictionaries({"multiple": st.just(1), "default": st.just(3)}),
    "absence": st.fixed_dictionaries({"rule": NAMES, "where": st.sampled_from(["between", "after"])}),
    "new_terms": st.fixed_dictionaries({"fields": st.lists(NAMES, max_size=2)}),
}


def changed(base: dict[str, Any], keys: tuple[str, ...], special: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    def apply(change: tuple[str, Any]) -> dict[str, Any]:
        key, value = change
        inner = base.get(key)
        return {**base, key: {**inner, **value} if isinstance(inner, dict) and isinstance(value, dict) else value}

    return st.sampled_from(keys).flatmap(lambda key: st.tuples(st.just(key), special.get(key, VALUES))).map(apply)


RULES = changed(RULE, (*RULE_KEYS, *RULE_EXTENSIONS, "x", *["detection"] * 20), {"detection": DETECTION})
LIKELY_ONES = st.tuples(LIKELY, st.fixed_dictionaries({}, optional=EXTENSIONS)).map(
    lambda pair: CORRELATION | {"correlation": CORRELATION["correlation"] | pair[0]} | pair[1]
)
CORRELATIONS = changed(CORRELATION, (*CORRELATION_KEYS, *CORRELATION_EXTENSIONS, *["correlation"] * 10), {"correlation": SECTION})


@settings(max_examples=150, deadline=None)
@given(st.lists(RULES | CORRELATIONS | VALUES, min_size=1, max_size=3))
def test_no_document_crashes_the_loader(documents: list[Any]) -> None:
    _loads(documents)


@settings(max_examples=150, deadline=None)
@given(LIKELY_ONES)
def test_no_correlation_crashes_the_loader(document: dict[str, Any]) -> None:
    _loads([document])


def _loads(documents: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "r.yml").write_text(yaml.safe_dump_all([RULE, *documents], allow_unicode=True), encoding="utf-8")
        library = load_library([Path(folder)])
    for error in [*library.errors, *lint(library), *check_tests(library)]:
        assert error.what
        assert error.line > 0
    for entry in library.entries:
        if entry.id in library.compiled:
            assert explain(library, entry)
    frame = pl.DataFrame({"event.type": ["tool_call"], "gen_ai.tool.name": ["a"], "event_time": [0], "error": [True]})
    found = matches(library.ruleset.rules, frame)
    assert all(dtype == pl.Boolean for dtype in found.dtypes)
    assert found.null_count().row(0) == (0,) * found.width
    assert found.height == (1 if library.ruleset.rules else 0)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab: -[]{}&*!|>'\"#%\n?,\t\\0\u00e9", max_size=60))
def test_no_text_crashes_the_loader(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "r.yml").write_text(text, encoding="utf-8")
        assert all(error.what for error in load_library([Path(folder)]).errors)
