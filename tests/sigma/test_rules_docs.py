"""docs/rules.md: every error of its table comes as it stands there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_ir.sigma import Library
from otel_ir.sigma.correlate import KINDS
from otel_ir.sigma.extensions import CORRELATION_ONLY

DOCS = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[tuple[str, str]]:
    table = re.split(r"\n##", DOCS.split(f"### {heading}\n")[1])[0]
    return [
        (row[1].replace("\\|", "|"), row[2].replace("\\|", "|")) for row in re.finditer(r"^\| `(\{.*\})` \| (.*) \|$", table, re.MULTILINE)
    ]


ROWS, CORRELATIONS = rows("Errors"), rows("Errors of correlations")
PLAIN = """\
title: {name}
id: {id}
name: {name}
logsource: {{product: opentelemetry, category: ai_agent}}
detection: {{sel: {{f: x}}, condition: {condition}}}
"""
ID = "6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a0"
MANY = f"""\
title: many
id: {ID}8
name: many
correlation: {{type: event_count, rules: [a], group-by: [user.id], timespan: 1m, condition: {{gt: 2}}}}
"""
NAMES = {"a": "sel", "b": "sel", "twins": "sel", "twins ": "sel", "broken": "les"}
CHANGED: dict[str, Any] = {
    "type": "event_count", "rules": ["a", "b"], "group-by": ["user.id"], "timespan": "5m", "condition": {"gt": 9},
}  # fmt: skip


def test_there_is_a_table() -> None:
    assert len(ROWS) > 20
    assert len(CORRELATIONS) > 60


@pytest.mark.parametrize(("detection", "expected"), ROWS)
def test_error(detection: str, expected: str, errors: Callable[..., list[str]]) -> None:
    head = "title: A\nid: 6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a01\nlogsource: {product: windows}\n"
    found = errors(f"{head}detection: {detection}\n")
    assert any(expected in line for line in found), found
    assert all(line.startswith("0.yml:") for line in found)


@pytest.mark.parametrize(("written", "expected"), CORRELATIONS)
def test_error_of_a_correlation(written: str, expected: str, errors: Callable[..., list[str]]) -> None:
    said = yaml.safe_load(written)
    change = said.pop("correlation", {})
    section = {key: value for key, value in (CHANGED | change).items() if value is not None} if isinstance(change, dict) else change
    known = [PLAIN.format(name=name.strip(), id=f"{ID}{at}", condition=condition) for at, (name, condition) in enumerate(NAMES.items(), 1)]
    document = {"title": "me", "id": f"{ID}9", "name": "me", "correlation": section} | said
    found = errors("---\n".join([*known, MANY]), yaml.safe_dump(document, sort_keys=False))
    assert any(expected in line for line in found), found
    assert all(line.startswith("1.yml:") or "'les' not defined" in line for line in found)


KINDS_TABLE = [
    (row[1], row[2])
    for row in re.finditer(r"^\| `(\{type: .*\})` \| .* \| (at once|waits) \|$", DOCS.split("## Correlations")[1].split("\n## ")[0], re.M)
]


def test_the_table_of_kinds_has_them_all() -> None:
    written = " ".join(row for row, _ in KINDS_TABLE)
    assert [kind for kind in (*KINDS, *CORRELATION_ONLY) if f"{kind}" not in written] == []


@pytest.mark.parametrize(("written", "fires"), KINDS_TABLE)
def test_an_example_of_a_kind_loads(written: str, fires: str, load: Callable[..., Library]) -> None:
    said = yaml.safe_load(written)
    ours = {key: said.pop(key) for key in CORRELATION_ONLY if key in said}
    section = {"rules": ["a", "b"], "group-by": ["user.id"], "timespan": "5m"} | said
    known = [PLAIN.format(name=name, id=f"{ID}{at}", condition="sel") for at, name in enumerate("abc", 1)]
    document = {"title": "me", "id": f"{ID}9", "correlation": section} | ours
    library = load("---\n".join(known), yaml.safe_dump(document, sort_keys=False))
    assert library.errors == []
    (one,) = library.ruleset.correlations
    assert one.deferred == (fires == "waits")
