"""The JSON Schema of rule files: it takes what is right, and refuses what is misspelt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from otel_ir.cli.rules import rules_app
from otel_ir.sigma.correlate import KINDS
from otel_ir.sigma.extensions import CORRELATION_EXTENSIONS
from otel_ir.sigma.ruleset import KIND_WORDS
from otel_ir.sigma.schema import rule_schema

ROOT = Path(__file__).parents[2]
RULE: dict[str, Any] = {
    "title": "t",
    "logsource": {"product": "opentelemetry", "category": "ai_agent", "service": "tool_call"},
    "detection": {"sel": {"f": "x"}, "condition": "sel"},
}
SECTION: dict[str, Any] = {"type": "event_count", "rules": ["r"], "group-by": ["user.id"], "timespan": "5m", "condition": {"gte": 1}}
COUNT: dict[str, Any] = {"title": "t", "correlation": SECTION}
FILTER: dict[str, Any] = RULE | {"filter": {"rules": "any", "sel": {"f": "x"}, "condition": "sel"}}
FILTER.pop("detection")
OTHER = RULE | {"logsource": {"product": "windows", "service": "x"}}


def problems(document: Any) -> list[str]:
    jsonschema = pytest.importorskip("jsonschema")
    plain = json.loads(json.dumps(document, default=str))
    return [error.message for error in jsonschema.Draft202012Validator(rule_schema()).iter_errors(plain)]


def test_the_schema_is_one() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(rule_schema())


def test_the_shipped_rules_hold() -> None:
    documents = [(path, one) for path in sorted((ROOT / "rules").rglob("*.y*ml")) for one in yaml.safe_load_all(path.read_text())]
    assert len(documents) > 4
    assert [(path.name, found) for path, one in documents if (found := problems(one))] == []


RIGHT = [
    RULE, COUNT, FILTER, OTHER | {"regression_tests_path": "x"}, RULE | {"suppress": "5m", "stage": "attempt", "response": "contain"},
    RULE | {"tests": [{"name": "x", "events": [{"f": 1}], "expect": 3}]}, COUNT | {"new_terms": {"fields": ["f"], "learn": 3}},
    COUNT | {"baseline": {"multiple": 3, "default": 10}},
    COUNT | {"correlation": SECTION | {"type": "temporal_ordered", "condition": "a and not b"}},
    COUNT | {"correlation": SECTION | {"type": "value_count", "condition": {"gt": 3, "field": ["f", "g"]}}},
    COUNT | {"correlation": SECTION | {"aliases": {"who": {"r": "f"}}}, "absence": {"rule": "r", "where": "after"}, "within-events": 5},
]  # fmt: skip
WRONG = [
    RULE | {"supress": "5m"}, RULE | {"suppress": 5}, RULE | {"suppress": "5 m"}, RULE | {"stage": "atack"}, RULE | {"within-events": 5},
    RULE | {"logsource": {"product": "opentelemetry", "service": "toolcall"}}, RULE | {"level": "hihg"}, {"title": "t"}, [], "x",
    RULE | {"logsource": {"product": "opentelemetry", "categroy": "x"}}, RULE | {"detection": {"sel": {"f": "x"}}},
    RULE | {"tests": [{"name": "x", "events": [], "expect": True}]}, RULE | {"tests": [{"name": "x", "events": [{}], "expects": True}]},
    COUNT | {"supress": "5m"}, COUNT | {"correlation": SECTION | {"group_by": ["x"]}},
    COUNT | {"correlation": SECTION | {"type": "event_cout"}},
    COUNT | {"correlation": SECTION | {"condition": {"tg": 1}}}, COUNT | {"correlation": SECTION | {"timespan": "5 m"}},
    COUNT | {"baseline": {"multipel": 3, "default": 10}}, COUNT | {"absence": {"rule": "r", "where": "before"}},
    COUNT | {"new_terms": {"field": ["f"]}}, COUNT | {"correlation": SECTION | {"suppress": "5m"}}, FILTER | {"detecton": {}},
]  # fmt: skip


@pytest.mark.parametrize("document", RIGHT)
def test_right(document: Any) -> None:
    assert problems(document) == []


@pytest.mark.parametrize("document", WRONG)
def test_wrong(document: Any) -> None:
    assert problems(document)


def test_every_kind_and_key_of_ours_is_described() -> None:
    found = rule_schema()["$defs"]
    assert set(KIND_WORDS) == set(KINDS) == {one["const"] for one in found["correlation"]["properties"]["type"]["oneOf"]}
    keys = found["correlation_rule"]["properties"]
    assert all("description" in keys[key] for key in CORRELATION_EXTENSIONS)
    assert all("description" in one for one in found["correlation"]["properties"].values())


def test_the_command_line_prints_it() -> None:
    shown = CliRunner().invoke(rules_app, ["schema"])
    assert (shown.exit_code, json.loads(shown.output)) == (0, rule_schema())
