"""``rules explain`` in words, of every kind of correlation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from otel_ir.sigma import Library
from otel_ir.sigma.correlate import KINDS
from otel_ir.sigma.words import explain

ID = "6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a0"
BASE: dict[str, Any] = {"type": "event_count", "rules": ["a", "b"], "group-by": ["user.id"], "timespan": "5m"}
WAITS = "It waits until nothing more can come"


def rule(name: str, number: int) -> dict[str, Any]:
    source = {"product": "opentelemetry", "category": "ai_agent"}
    return {
        "title": name.upper(),
        "id": f"{ID}{number}",
        "name": name,
        "logsource": source,
        "detection": {"s": {"f": name}, "condition": "s"},
    }


KNOWN = [rule("a", 1), rule("b", 2), {"title": "Many", "id": f"{ID}3", "name": "many", "correlation": BASE | {"condition": {"gt": 2}}}]
ORDERED = {"type": "temporal_ordered"}
SAID: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    ({"condition": {"gte": 3}}, {}, ["for each user.id, more than 2 matches of\n  - A\n  - B\nfall within 5 minutes."]),
    ({"condition": {"lt": 3}}, {}, ["is less than 3, within 5 minutes from one of them on", WAITS]),
    ({"condition": {"gt": 6}}, {"baseline": {"multiple": 3, "default": 2}}, ["more than 3 times its own rate; until then 3 times 2."]),
    (
        {"type": "value_count", "condition": {"gt": 3, "field": ["f", "g"]}},
        {},
        ["the number of different values of f and g is more than 3"],
    ),
    ({"type": "value_sum", "condition": {"gte": 1.5, "field": "f"}}, {}, ["the sum of f is at least 1.5"]),
    ({"type": "value_avg", "condition": {"gt": 3, "field": "f"}}, {}, ["the average of f is more than 3, within 5 minutes, over", WAITS]),
    ({"type": "value_median", "condition": {"neq": 3, "field": "f"}}, {}, ["the median of f is other than 3", WAITS]),
    (
        {"type": "value_percentile", "condition": {"lte": 3, "field": "f", "percentile": 95}},
        {},
        ["the 95th percentile of f is at most 3", WAITS],
    ),
    ({"type": "temporal"}, {}, ["within 5 minutes, in whatever order,\n  1. A\n  2. B\nhave matched."]),
    ({"type": "temporal", "condition": "a or b"}, {}, ["  1. A\nor\n  1. B\nhave matched."]),
    ({"type": "temporal", "condition": "a and not b"}, {}, ["  1. A\n  and no match of B\nhave matched.", WAITS]),
    (ORDERED, {"within-events": 7}, ["within 5 minutes, among the last 7 events, in this order,\n  1. A\n  2. B\nhave matched."]),
    (ORDERED, {"absence": {"rule": "b"}}, ["And no match of B lies between the first and the last.", WAITS]),
    (
        ORDERED | {"rules": ["a"]},
        {"absence": {"rule": "b", "where": "after"}},
        ["And no match of B lies within 5 minutes after that.", "\nB:\n"],
    ),
    ({"group-by": ["who"], "aliases": {"who": {"a": "f", "b": "g"}}, "condition": {"gt": 1}}, {}, ["There who is f of A, g of B."]),
    ({"rules": ["many", "a"], "condition": {"gt": 1}}, {}, ["  - Many (each alert of it)\n  - A"]),
    (
        {"condition": {"gte": 1}},
        {"new_terms": {"fields": ["f"], "learn": 3}},
        [
            "has a value of f that the group did not have within 5 minutes before.",
            "must have had 3 others by then.\nEach new value alerts.",
        ],
    ),
    (
        {"condition": {"gte": 1}},
        {"new_terms": {"fields": ["f"]}, "suppress": "1h"},
        ["had 1 other by then.\nAfter an alert, further ones are counted for 1 hour."],
    ),
]


@pytest.mark.parametrize(("section", "more", "expected"), SAID)
def test_in_words(section: dict[str, Any], more: dict[str, Any], expected: list[str], load: Callable[..., Library]) -> None:
    one = {"title": "T", "id": f"{ID}9", "correlation": BASE | section} | more
    library = load(yaml.safe_dump_all([*KNOWN, one]))
    assert library.errors == []
    words = explain(library, library.entry(f"{ID}9"))
    assert [part for part in expected if part not in words] == [], words


def test_every_kind_has_words() -> None:
    assert {section.get("type", "event_count") for section, _, _ in SAID} == set(KINDS)
