"""The JSON Schema of a rule file, for editors: Sigma 2's keys and ours, with what they mean.

It says less than ``rules check``: what a detection or a condition means is beyond a schema.
"""

from __future__ import annotations

from typing import Any

import msgspec

from otel_ir.model import EventType
from otel_ir.sigma.extensions import (
    CATEGORY,
    CORRELATION_EXTENSIONS,
    CORRELATION_KEYS,
    FILTER_KEYS,
    INNER_KEYS,
    PRODUCT,
    RULE_EXTENSIONS,
    RULE_KEYS,
    ExtensionConfig,
)
from otel_ir.sigma.parse import LEVELS, STATUSES
from otel_ir.sigma.ruleset import KIND_WORDS
from otel_ir.sigma.shape import CorrelationConfig

_TEXT: dict[str, Any] = {"type": "string"}
_TEXTS: dict[str, Any] = {"type": "array", "items": _TEXT}
_SPAN = {"type": "string", "pattern": "^[0-9]{1,9}[smhdwMy]$"}
_KINDS = {"oneOf": [{"const": kind, "description": words} for kind, words in KIND_WORDS.items()]}
_WORDS: dict[str, tuple[str, dict[str, Any]]] = {
    "title": ("What it finds, in a few words.", _TEXT | {"maxLength": 256}),
    "id": ("A UUID, such as one printed by: python -c 'import uuid; print(uuid.uuid4())'", _TEXT | {"format": "uuid"}),
    "name": ("The signal of its alerts, and what correlations may call it.", _TEXT),
    "status": ("How far it can be trusted.", {"enum": list(STATUSES)}),
    "description": ("What it finds, and why that matters.", _TEXT),
    "level": ("Severity of its alerts: informational and low become low; none is medium.", {"enum": list(LEVELS)}),
    "tags": ("namespace.name: owasp.asi01 … owasp.asi10, atlas.aml.t0051.001.", _TEXTS),
    "references": ("Where to read more.", _TEXTS),
    "falsepositives": ("What it takes for an attack that is none.", _TEXTS),
    "fields": ("Fields an analyst wants to see.", _TEXTS),
    "author": ("Who wrote it.", _TEXT),
    "license": ("An SPDX license identifier.", _TEXT),
    "logsource": ("Which events it looks at.", {"$ref": "#/$defs/logsource"}),
    "detection": ("Named groups of tests of fields, and a condition over their names.", {"$ref": "#/$defs/detection"}),
    "filter": ("What to leave out of rules; else as a detection.", {"type": "object", "required": ["rules", "condition"]}),
    "correlation": ("What follows from several events.", {"$ref": "#/$defs/correlation"}),
    "type": ("What is counted or looked for in the timespan.", _KINDS),
    "rules": ("Ids or names; an ordered correlation takes them in this order.", {}),
    "group-by": ("Columns: each combination of values is a group of its own. An alias where rules name it differently.", {}),
    "timespan": ("The window, such as 30s, 5m, 1h, 7d.", _SPAN),
    "condition": ("A comparison such as 'gt: 5', or a condition over names of rules (temporal, temporal_ordered).", {}),
    "aliases": ("A name for group-by, and for each rule the column that it stands for.", {}),
    "generate": ("Whether its rules alert by themselves as well.", {}),
    "gt": ("More than.", {}), "gte": ("At least.", {}), "lt": ("Less than.", {}), "lte": ("At most.", {}), "eq": ("Exactly.", {}),
    "neq": ("Other than.", {}),
    "field": ("The column whose values count; several with value_count.", {}),
    "percentile": ("Of value_percentile, nearest rank.", {}),
    "within-events": ("The sequence lies within the last N events of the rules' service in the group, and within the timespan.", {}),
    "baseline": ("The threshold is a multiple of the group's own rate. The condition says 'gt: multiple x default'.", {}),
    "multiple": ("The threshold is so many times the rate per timespan.", {}),
    "default": ("The rate until one is learnt.", {}),
    "absence": ("No match of a rule between the steps of a sequence, or after it.", {}),
    "where": ("Between the first and the last step, or within the timespan after the last.", {}),
    "rule": ("Id or name of the rule of which there must be no match.", {}),
    "new_terms": ("A value that the group did not have within the timespan before. The condition says 'gte: 1'.", {}),
    "suppress": ("No second alert of the group for so long. Default: the timespan of correlations.", _SPAN),
    "stage": ("What an alert of it proves.", {}),
    "response": ("The playbook to run; otherwise the response policy decides.", {}),
    "tests": ("Events, and whether they alert; otel-ir rules test runs them.", {}),
    "events": ("In column names. at, every and repeat place them in time.", {}),
    "expect": ("Whether it alerts, or how many alerts it raises.", {}),
}  # fmt: skip
"""Key -> what it means, and its type where msgspec does not know it."""


def rule_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of one document of a rule file."""
    (_, _), defs = msgspec.json.schema_components([ExtensionConfig, CorrelationConfig], ref_template="#/$defs/{name}")
    for one in defs.values():
        for key, schema in one.get("properties", {}).items():
            _describe(schema, key)
    ours, section = defs.pop("ExtensionConfig")["properties"], defs.pop("CorrelationConfig")
    section |= {"required": ["type", "timespan"], "additionalProperties": False}
    section["properties"] |= {key: _said(key) for key in ("type", "timespan")}
    ours["suppress"] = _said("suppress")
    defs |= {
        "correlation": section,
        "logsource": {"type": "object", "properties": dict.fromkeys(INNER_KEYS["logsource"], _TEXT)},
        "detection": {
            "type": "object",
            "required": ["condition"],
            "properties": {"condition": {"anyOf": [_TEXT, _TEXTS], "description": "Over the names: and, or, not, 1 of x*, all of them."}},
        },
        "rule": _document(RULE_KEYS, RULE_EXTENSIONS, ours, ["title", "logsource", "detection"]),
        "correlation_rule": _document(CORRELATION_KEYS, CORRELATION_EXTENSIONS, ours, ["title", "correlation"]),
        "filter_rule": _document(FILTER_KEYS, (), ours, ["title", "logsource", "filter"]),
    }
    strict = {"propertyNames": {"enum": [*RULE_KEYS, *RULE_EXTENSIONS]}, "properties": {"logsource": _service()}}
    named = [{"properties": {key: {"const": value}}, "required": [key]} for key, value in (("product", PRODUCT), ("category", CATEGORY))]
    about_agents = {"properties": {"logsource": {"anyOf": named}}, "required": ["logsource"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "otel_ir rule: a Sigma rule, correlation or filter",
        "type": "object",
        "if": {"required": ["correlation"]},
        "then": {"$ref": "#/$defs/correlation_rule"},
        "else": {
            "if": {"required": ["filter"]},
            "then": {"$ref": "#/$defs/filter_rule"},
            "else": {"$ref": "#/$defs/rule", "if": about_agents, "then": strict},
        },
        "$defs": dict(sorted(defs.items())),
    }


def _describe(schema: dict[str, Any], key: str) -> None:
    if key in _WORDS:
        words, more = _WORDS[key]
        schema |= {"description": words} | ({} if "anyOf" in schema else more)


def _said(key: str) -> dict[str, Any]:
    words, schema = _WORDS.get(key, ("", {}))
    return schema | ({"description": words} if words else {})


def _document(keys: tuple[str, ...], extensions: tuple[str, ...], ours: dict[str, Any], required: list[str]) -> dict[str, Any]:
    properties = {key: _said(key) for key in keys} | {key: ours[key] for key in extensions}
    strict = {} if "detection" in keys else {"additionalProperties": False}
    return {"type": "object", "required": required, "properties": properties} | strict


def _service() -> dict[str, Any]:
    service = {"enum": [one.value for one in EventType], "description": "An event type; left out, all events."}
    return {"properties": {key: {} for key in INNER_KEYS["logsource"]} | {"service": service}, "additionalProperties": False}


__all__ = ["rule_schema"]
