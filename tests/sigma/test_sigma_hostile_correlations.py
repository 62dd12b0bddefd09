"""Correlations that were written to hurt cost themselves only, in little time: deep and long conditions, many names, circles, chains."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
import yaml

from otel_ir.sigma import Library, correlate

Load = Callable[..., Library]
ID = "6e0a9b7e-7b5a-4a7f-9e0c-{:012x}"


def plain(number: int) -> dict[str, Any]:
    source = {"product": "opentelemetry", "category": "ai_agent"}
    detection = {"sel": {"gen_ai.tool.name": f"t{number}"}, "condition": "sel"}
    return {"title": "p", "id": ID.format(number), "name": f"r{number}", "logsource": source, "detection": detection}


def over(name: str, *rules: str, number: int = 0xFFFF, **more: Any) -> dict[str, Any]:
    section = {"type": "event_count", "rules": list(rules), "timespan": "1m", "condition": {"gt": 1}} | more
    kept = {key: value for key, value in section.items() if value is not None}
    return {"title": name, "id": ID.format(number), "name": name, "correlation": kept}


def temporal(condition: Any, rules: int = 0) -> dict[str, Any]:
    return over("c", *(f"r{at}" for at in range(rules)), type="temporal", condition=condition) if rules else over(
        "c", type="temporal", condition=condition, rules=None
    )  # fmt: skip


def everyone(link: str, names: int) -> str:
    return link.join(f"r{at}" for at in range(names))


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "brackets": (temporal("(r0 or " * 900 + "r1" + ")" * 900), "a condition is nested too deep"),
    "negations": (temporal("not " * 1900 + "r0"), "a condition is nested too deep"),
    "a long condition": (temporal(" or ".join(["r0"] * 5000)), "a condition of more than 8192 characters"),
    "10,000 names in a condition": (temporal(everyone(" or ", 10_000)), "a condition of more than 8192 characters"),
    "1,000 names in a condition": (temporal(everyone(" or ", 1000)), "a correlation refers to 1 to 31 rules"),
    "10,000 names in a list": (over("c", *(f"r{at % 20}" for at in range(10_000))), "a correlation refers to 1 to 31 rules"),
    "10,000 columns": (over("c", "r0", **{"group-by": [f"f{at}" for at in range(10_000)]}), "group-by names more than 8 columns"),
    "alternatives that multiply": (
        temporal(" and ".join(f"(r{at} or r{at + 1})" for at in range(0, 20, 2))), "a condition with more than 64 alternatives",
    ),
    "alternatives in a row": (
        temporal(" or ".join(f"(r{a} and r{b})" for a, b in combinations(range(20), 2))), "a condition with more than 64 alternatives",
    ),
    "some of many": (temporal({"gte": 10}, 20), "more than 64 ways to choose 10 of 20 rules"),
    "a number of thousands of digits": (over("c", "r0", condition={"gt": "9" * 4000}), "1.yml:2:3: '99999999"),
    "10,000 aliases": (
        over("c", "r0", aliases={f"a{at}": {"r0": "f"} for at in range(10_000)}), "aliases: Expected `object` of length <= 8",
    ),
    "an alias of 10,000": (
        over("c", "r0", aliases={"who": {f"r{at}": "f" for at in range(10_000)}}), "aliases: Expected `object` of length <= 31",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_an_error_for_that_correlation_only(name: str, load: Load) -> None:
    document, expected = HOSTILE[name]
    good = over("good", "r0", number=0xFFFE)
    began = time.process_time()
    library = load(yaml.safe_dump_all([*map(plain, range(20)), good]), yaml.safe_dump(document))
    assert any(expected in str(error) for error in library.errors), [str(error)[:300] for error in library.errors]
    assert all(error.path.endswith("1.yml") for error in library.errors)
    assert all(len(str(error)) < 1500 for error in library.errors)
    assert len(library.errors) <= 20
    assert [one.signal for one in library.ruleset.correlations] == ["good"]
    assert time.process_time() - began < 20


def test_a_circle_of_three_and_one_over_it(load: Load) -> None:
    circle = [over("a", "b", number=1), over("b", "c", number=2), over("c", "a", number=3), over("d", "a", "p", number=4)]
    library = load(yaml.safe_dump_all([*circle, plain(9) | {"name": "p"}]))
    words = [str(error) for error in library.errors]
    assert sum("in a circle" in line for line in words) == 3
    assert f"{ID.format(1)} -> {ID.format(2)} -> {ID.format(3)} -> {ID.format(1)}" in "\n".join(words)
    assert library.ruleset.correlations == ()


def test_a_chain_ends_after_eight(load: Load) -> None:
    chain = [over(f"c{at}", f"c{at - 1}" if at else "r0", number=100 + at) for at in range(500)]
    began = time.process_time()
    library = load(yaml.safe_dump_all([plain(0), *chain[::-1]]))
    assert len(library.ruleset.correlations) == 8
    assert len(library.errors) == len(chain) - 8
    assert all("correlations refer to each other more than 8 deep" in str(error) for error in library.errors)
    assert time.process_time() - began < 60


def test_a_type_that_pysigma_knows_and_this_version_does_not(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(correlate.KINDS, "value_median")
    library = load(yaml.safe_dump_all([plain(0), over("c", "r0", type="value_median", condition={"gt": 1, "field": "f"})]))
    assert ["correlation type 'value_median'" in str(error) for error in library.errors] == [True]
