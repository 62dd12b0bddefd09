"""A reading of the Sigma specification that goes row by row, slow and obvious, against the compiled expressions."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from sigma.rule import SigmaDetections

from otel_ir.sigma.columns import Columns
from otel_ir.sigma.compile import compile_detection
from otel_ir.sigma.evaluate import Evaluator
from otel_ir.sigma.regex import POLICY

from .conftest import library_of

# The naive reading


def tokens(written: str) -> list[str]:
    """``*`` and ``?`` as "star" and "one"; a backslash escapes them and itself, and is plain before anything else."""
    found, at = [], 0
    while at < len(written):
        char, after = written[at], written[at + 1 : at + 2]
        if char == "\\" and after in ("*", "?", "\\") and after:
            found.append(after)
            at += 1
        else:
            found.append({"*": "star", "?": "one"}.get(char, char))
        at += 1
    return found


def fits(pattern: list[str], text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "star":
        return any(fits(pattern[1:], text[at:]) for at in range(len(text) + 1))
    return bool(text) and (pattern[0] == "one" or pattern[0] == text[0]) and fits(pattern[1:], text[1:])


def lower(text: str) -> str:
    return text.lower().replace("\u03c2", "\u03c3")


def as_text(value: Any) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None else value if isinstance(value, str) else json.dumps(value)


def as_number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None or (isinstance(value, str) and value != value.strip()):
        return None
    try:
        return float(value)
    except ValueError:
        return None


WRAP = {"contains": ("star", "star"), "startswith": (None, "star"), "endswith": ("star", None)}


def test_one(value: Any, modifiers: list[str], wanted: Any) -> bool:
    """One value of the event (None: not there) against one value of the rule."""
    comparison = next((name for name in ("lt", "lte", "gt", "gte") if name in modifiers), None)
    if comparison:
        number = as_number(value)
        if number is None:
            return False
        return {"lt": number < wanted, "lte": number <= wanted, "gt": number > wanted, "gte": number >= wanted}[comparison]
    if "cidr" in modifiers:
        try:
            return ip_address(value) in ip_network(wanted)
        except ValueError:
            return False
    if wanted is None:
        return value is None
    if isinstance(wanted, bool):
        return value is not None and lower(as_text(value) or "") == str(wanted).lower()
    if isinstance(wanted, int | float):
        return as_number(value) == wanted
    text = as_text(value)
    if text is None:
        return False
    pattern = tokens(wanted)
    for name, (before, after) in WRAP.items():
        if name in modifiers:
            pattern = ([before] if before else []) + pattern + ([after] if after else [])
    if "cased" in modifiers:
        return fits(pattern, text)
    return fits([token if token in ("star", "one") else lower(token) for token in pattern], lower(text))


test_one.__test__ = False  # type: ignore[attr-defined]


def item_holds(key: str, wanted: Any, event: dict[str, Any]) -> bool:
    field, *modifiers = key.split("|")
    if "exists" in modifiers:
        return (event.get(field) is not None) is wanted
    found = [test_one(event.get(field), modifiers, one) for one in (wanted if isinstance(wanted, list) else [wanted])]
    held = all(found) if "all" in modifiers else any(found)
    return not held if "neq" in modifiers else held


def selection_holds(selection: Any, event: dict[str, Any]) -> bool:
    if isinstance(selection, list):
        return any(selection_holds(one, event) for one in selection)
    return all(item_holds(key, wanted, event) for key, wanted in selection.items())


def condition_holds(tree: Any, holds: dict[str, bool]) -> bool:
    if isinstance(tree, str):
        return holds[tree]
    kind, *parts = tree
    if kind == "not":
        return not condition_holds(parts[0], holds)
    if kind == "of":
        quantity, prefix = parts
        return (any if quantity == "1" else all)(held for name, held in holds.items() if name.startswith(prefix))
    return (all if kind == "and" else any)(condition_holds(part, holds) for part in parts)


def spelled(tree: Any) -> str:
    if isinstance(tree, str):
        return tree
    kind, *parts = tree
    if kind == "not":
        return f"not ({spelled(parts[0])})"
    return f"{parts[0]} of {parts[1]}*" if kind == "of" else "(" + f" {kind} ".join(map(spelled, parts)) + ")"


# What is tried

TEXTS = st.text(alphabet="aAbB*?\\.\u00e9\u00c9\u03a3\u03c2\n1", max_size=6)
NUMERIC = st.sampled_from(["1", "2", "2.0", "-1", "1.5", "1e0", ".5", "", "x", "1 "])
ADDRESSES = st.sampled_from(
    ["10.1.2.3", "10.128.0.0", "11.0.0.0", "::1", "2001:db8::1", "2001:DB8:0:0:1::", "10.1.2", "x", "1:2:3:4:5:6:7:8"]
)
EVENT = st.fixed_dictionaries(
    {
        "s": st.none() | TEXTS,
        "t": st.none() | TEXTS | NUMERIC,
        "n": st.none() | st.integers(-3, 3),
        "b": st.none() | st.booleans(),
        "ip": st.none() | ADDRESSES,
    }
)
FRAME = {"s": pl.String, "t": pl.String, "n": pl.Int64, "b": pl.Boolean, "ip": pl.String}
ANY = st.sampled_from(["s", "t", "n", "b"])
NUMBERS = st.integers(-3, 3) | st.sampled_from([0.5, 1.5, -1.5])


def some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return values | st.lists(values, min_size=1, max_size=4)


ITEM = st.one_of(
    st.tuples(ANY, some(TEXTS | NUMERIC | NUMBERS | st.booleans() | st.none())),
    st.tuples(
        st.tuples(ANY, st.sampled_from(["", "|contains", "|startswith", "|endswith"]), st.sampled_from(["", "|cased", "|all", "|neq"])).map(
            "".join
        ),
        some(TEXTS | NUMERIC),
    ),
    st.tuples(st.tuples(ANY, st.sampled_from(["|lt", "|lte", "|gt", "|gte"])).map("".join), NUMBERS),
    st.tuples(st.tuples(ANY, st.just("|exists")).map("".join), st.booleans()),
    st.tuples(st.just("ip|cidr"), some(st.sampled_from(["10.0.0.0/9", "10.1.0.0/16", "0.0.0.0/0", "2001:db8::/32", "::/3", "::1/128"]))),
)
MAP = st.lists(ITEM, min_size=1, max_size=3).map(dict)
NAMES = ("sel_a", "sel_b", "filter")
TREE = st.recursive(
    st.sampled_from(NAMES) | st.tuples(st.just("of"), st.sampled_from(["1", "all"]), st.sampled_from(["sel_", "filter", ""])),
    lambda inner: st.tuples(st.just("not"), inner) | st.tuples(st.sampled_from(["and", "or"]), inner, inner),
    max_leaves=5,
)
DETECTION = st.fixed_dictionaries({name: MAP | st.lists(MAP, min_size=1, max_size=3) for name in NAMES})


def expected(detection: dict[str, Any], tree: Any, events: list[dict[str, Any]]) -> list[bool]:
    holds = [{name: selection_holds(selection, event) for name, selection in detection.items()} for event in events]
    return [condition_holds(tree, one) for one in holds]


@settings(max_examples=300, deadline=None)
@given(DETECTION, TREE, st.lists(EVENT, min_size=1, max_size=6))
def test_compiled_rules_agree_with_the_naive_reading(detection: dict[str, Any], tree: Any, events: list[dict[str, Any]]) -> None:
    columns = Columns({name: dtype() for name, dtype in FRAME.items()})
    parsed = SigmaDetections.from_dict({**detection, "condition": spelled(tree)}, policy=POLICY)
    frame = pl.DataFrame(events, schema=FRAME)
    found = frame.lazy().with_columns(hit=compile_detection(parsed, columns)).collect()["hit"]
    assert found.to_list() == expected(detection, tree, events)


@settings(max_examples=60, deadline=None)
@given(DETECTION, TREE, st.lists(EVENT, min_size=1, max_size=6), st.integers(1, 4))
def test_eval_agrees_with_the_naive_reading(detection: dict[str, Any], tree: Any, events: list[dict[str, Any]], batch: int) -> None:
    """Absent instead of null, so that presence means the same in both; and whatever the batching."""
    rule = {"title": "t", "logsource": {"product": "any"}, "detection": {**detection, "condition": spelled(tree)}}
    evaluator = Evaluator(library_of(rule))
    lines = [json.dumps({"at": at} | {key: value for key, value in event.items() if value is not None}) for at, event in enumerate(events)]
    hits = {event["at"] for start in range(0, len(lines), batch) for _, event in evaluator.run(lines[start : start + batch])}
    assert [at in hits for at in range(len(events))] == expected(detection, tree, events)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
)


@settings(max_examples=60, deadline=None)
@given(DETECTION, TREE, st.lists(st.dictionaries(st.sampled_from(["s", "t", "n", "b", "ip"]), VALUES), min_size=1, max_size=5))
def test_no_event_crashes_and_batches_do_not_matter(detection: dict[str, Any], tree: Any, events: list[dict[str, Any]]) -> None:
    also = {"ref": {"s|fieldref": "t", "n|fieldref|startswith": "b"}, "word": ["a", 1], "condition": f"{spelled(tree)} or ref or word"}
    rule = {"title": "t", "logsource": {"product": "any"}, "detection": {**detection, **also}}
    lines = [json.dumps({**event, "at": at}) for at, event in enumerate(events)]
    together = [event["at"] for _, event in Evaluator(library_of(rule)).run(lines)]
    alone = [event["at"] for line in lines for _, event in Evaluator(library_of(rule)).run([line])]
    one_by_one = Evaluator(library_of(rule))
    assert together == alone == [event["at"] for line in reversed(lines) for _, event in one_by_one.run([line])][::-1]
