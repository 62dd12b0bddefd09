"""Rules are evaluated in groups, over some rows, through shared columns, and some not at all: none of that changes what matches."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ir.model import EVENT_SCHEMA
from otel_ir.sigma import Rule, load_rules, match, matches
from otel_ir.sigma.columns import event_dtype, event_frame

FIELDS = ("gen_ai.tool.name", "error", "gen_ai.usage.input_tokens", "event_time", "custom.attribute", "otel_ir.arguments.body.length")
MODIFIERS = ("", "|contains", "|startswith", "|endswith", "|contains|all", "|cased", "|re", "|neq", "|exists", "|gt", "|fieldref", "|cidr")
TEXTS = ("", "a", "A", "ab", "\u03a3\u03a3", "a*b", "*", "10.0.0.1", "true", "5", "null", "\u0130")
ID = "6e0a9b7e-7b5a-4a7f-9e0c-00000000000"
SERVICES = ("tool_call", "model_output", "handoff")


@st.composite
def items(draw: st.DrawFn) -> Any:
    """One map of a detection, or a list of keywords."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.lists(st.sampled_from(TEXTS[1:4]), min_size=1, max_size=2))
    tests: dict[str, Any] = {}
    for _ in range(draw(st.integers(1, 2))):
        field, modifier = draw(st.sampled_from(FIELDS)), draw(st.sampled_from(MODIFIERS))
        value: Any = draw(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3))
        special = {"|exists": True, "|gt": 3, "|fieldref": draw(st.sampled_from(FIELDS)), "|cidr": "10.0.0.0/8", "|re": "a.?b|A"}
        if modifier in special:
            value = draw(st.booleans()) if modifier == "|exists" else special[modifier]
        elif modifier in ("", "|neq") and draw(st.integers(0, 3)) == 0:
            value = draw(st.sampled_from([None, 5, True, ["a", None]]))
        tests[field + modifier] = value
    return tests


@st.composite
def documents(draw: st.DrawFn, number: int) -> dict[str, Any]:
    source = {"product": "opentelemetry", "category": "ai_agent"} if draw(st.integers(0, 9)) else {"product": "windows"}
    if service := draw(st.sampled_from((None, *SERVICES))):
        source["service"] = service
    condition = draw(st.sampled_from(["a", "a and b", "a or b", "a and not b", "not a", "1 of them", "not (a and b)", "not a or b"]))
    return {
        "title": f"rule {number}",
        "id": f"{ID}{number}",
        "logsource": source,
        "detection": {"a": draw(items()), "b": draw(items()), "condition": condition},
    }


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    """Events; columns may be missing, or null throughout."""
    height = draw(st.sampled_from([0, 1, 5, 17, 40]))
    empty = draw(st.sets(st.sampled_from(FIELDS)))
    types = st.none() | st.sampled_from(draw(st.sampled_from([SERVICES, SERVICES[:1]])))
    columns: dict[str, Any] = {"event.type": pl.Series([draw(types) for _ in range(height)], dtype=pl.String)}
    values = {pl.String: st.none() | st.sampled_from(TEXTS), pl.Boolean: st.none() | st.booleans(), pl.Int64: st.none() | st.integers(0, 6)}
    for name in draw(st.sets(st.sampled_from(FIELDS))):
        dtype = event_dtype(name)
        some = st.none() if name in empty else values[type(dtype)]
        columns[name] = pl.Series([draw(some) for _ in range(height)], dtype=dtype)
    return pl.DataFrame(columns)


def alone(rule: Rule, frame: pl.DataFrame) -> list[bool]:
    """One rule by itself over every row."""
    whole = event_frame(frame, rule.fields | {"event.type"})
    return whole.with_columns(rule.predicate.alias("\0found"))["\0found"].to_list()


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 6).flatmap(lambda count: st.tuples(*(documents(number) for number in range(count)))), frames(), st.booleans())
def test_together_is_as_alone(written: tuple[dict[str, Any], ...], frame: pl.DataFrame, tall: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        (Path(folder) / "r.yml").write_text(yaml.safe_dump_all(written, allow_unicode=True), encoding="utf-8")
        ruleset, _ = load_rules([Path(folder)])
        patch.setattr(match, "TALL", 0 if tall else 1 << 14)
        found = matches(ruleset.rules, frame)
    assert found.columns == [rule.id for rule in ruleset.rules]
    for rule in ruleset.rules:
        assert found[rule.id].to_list() == alone(rule, frame), rule.title


def test_a_rule_that_cannot_match_is_not_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = {"product": "opentelemetry", "category": "ai_agent", "service": "tool_call"}
    tool, error = {"gen_ai.tool.name": "x"}, {"error.type": "y"}
    detections = [{"a": tool, "b": error, "condition": condition} for condition in ("a", "a and b", "a or b", "a and not b")]
    sources = [source] * 4 + [source | {"service": "handoff"}]
    rules = [
        {"title": f"r{at}", "id": f"{ID}{at}", "logsource": where, "detection": one}
        for at, (where, one) in enumerate(zip(sources, [*detections, detections[0]], strict=True))
    ]
    (tmp_path / "r.yml").write_text(yaml.safe_dump_all(rules))
    ruleset, errors = load_rules([tmp_path])
    assert not errors
    assert [sorted(rule.plan.needs) for rule in ruleset.rules if rule.plan][:4] == [
        ["gen_ai.tool.name"], ["error.type", "gen_ai.tool.name"], [], ["gen_ai.tool.name"],
    ]  # fmt: skip
    evaluated: list[str] = []
    real = pl.DataFrame.select_seq

    def watched(frame: pl.DataFrame, *expressions: Any) -> pl.DataFrame:
        evaluated.extend(expression.meta.output_name() for expression in expressions)
        return real(frame, *expressions)

    monkeypatch.setattr(pl.DataFrame, "select_seq", watched)
    row = dict.fromkeys(EVENT_SCHEMA) | {"event.type": "tool_call", "gen_ai.tool.name": "x"}
    found = matches(ruleset.rules, pl.DataFrame([row], schema=EVENT_SCHEMA))
    assert found.row(0) == (True, False, True, True, False)
    assert set(evaluated) == {"\0", *(f"{ID}{at}" for at in (0, 2, 3))}
