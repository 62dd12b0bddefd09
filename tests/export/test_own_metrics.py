"""Our own metrics: one table, from which Prometheus text, OTLP and the documentation come."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import otel_ir
from otel_ir.export import ACTION_ATTRIBUTES, ATTRIBUTES, INCIDENT_ATTRIBUTES
from otel_ir.export.changes import ACTION_SEVERITY, OUR_FAULT
from otel_ir.export.records import COUNT, Attribute
from otel_ir.model_lifecycle import TOLD
from otel_ir.telemetry import MAX_SERIES, METRICS, Telemetry

PACKAGE = Path(otel_ir.__file__).parent
DOCS = PACKAGE.parent / "docs"


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    telemetry = Telemetry()
    yield telemetry
    telemetry.close()


def series(telemetry: Telemetry, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(telemetry.render())
        for sample in family.samples
        if sample.name == name
    }


def test_prometheus_text(telemetry: Telemetry) -> None:
    telemetry.add("otel_ir.alerts", severity="critical", stage="compromise", rule_id="r", signal="s")
    telemetry.add("otel_ir.alerts", 2, severity="critical", stage="compromise", rule_id="r", signal="s")
    telemetry.record("otel_ir.fold.duration", 0.3, stage="decode")
    telemetry.set("otel_ir.journal.size", 4096)
    telemetry.observe("otel_ir.checkpoint.age", lambda: 12.5)
    labels = (("rule_id", "r"), ("severity", "critical"), ("signal", "s"), ("stage", "compromise"))
    assert series(telemetry, "otel_ir_alerts_total") == {labels: 3}
    assert series(telemetry, "otel_ir_fold_duration_seconds_sum") == {(("stage", "decode"),): 0.3}
    assert series(telemetry, "otel_ir_fold_duration_seconds_bucket")[("le", "0.5"), ("stage", "decode")] == 1
    assert series(telemetry, "otel_ir_journal_size_bytes") == {(): 4096}
    assert series(telemetry, "otel_ir_checkpoint_age_seconds") == {(): 12.5}
    assert series(telemetry, "process_resident_memory_bytes")


def test_two_at_once_do_not_mix(telemetry: Telemetry) -> None:
    other = Telemetry()
    other.add("otel_ir.fold.records", 7)
    assert series(telemetry, "otel_ir_fold_records_total") == {(): 0}
    other.close()


def test_counters_begin_at_zero_and_never_fall(telemetry: Telemetry) -> None:
    telemetry.add("otel_ir.fold.records", -5)
    assert series(telemetry, "otel_ir_fold_records_total") == {(): 0}


def test_an_unknown_name_is_counted_and_breaks_nothing(telemetry: Telemetry) -> None:
    telemetry.add("otel_ir.alert")
    telemetry.record("otel_ir.alerts", 1)
    telemetry.set("nothing", 1)
    assert series(telemetry, "otel_ir_telemetry_unknown_total") == {(): 3}
    with pytest.raises(KeyError):
        telemetry.observe("otel_ir.alerts", lambda: 0)


def test_attributes_are_bounded(telemetry: Telemetry) -> None:
    telemetry.add("otel_ir.alerts", severity="x" * 1000, conversation="c-1")
    ((labels, _),) = series(telemetry, "otel_ir_alerts_total").items()
    assert labels == (("severity", "x" * 128),)


def test_series_are_bounded(telemetry: Telemetry) -> None:
    for number in range(MAX_SERIES + 50):
        telemetry.add("otel_ir.alerts", rule_id=f"rule-{number}")
    found = series(telemetry, "otel_ir_alerts_total")
    assert len(found) == MAX_SERIES + 1
    assert sum(found.values()) == MAX_SERIES + 50


def test_after_close_measuring_is_harmless(telemetry: Telemetry) -> None:
    telemetry.close()
    telemetry.close()
    telemetry.add("otel_ir.fold.records")
    telemetry.record("otel_ir.fold.duration", 1)
    telemetry.set("otel_ir.journal.size", 1)


MEASURING = {"add", "record", "set", "observe", "_count", "_measure"}


def measurements() -> Iterator[tuple[str, str, set[str]]]:
    """(place, metric, attributes) of every call in the code that measures something."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr not in MEASURING:
                continue
            if node.args and isinstance(node.args[0], ast.Constant) and str(node.args[0].value).startswith("otel_ir."):
                yield f"{path.name}:{node.lineno}", str(node.args[0].value), {k.arg for k in node.keywords if k.arg}


def test_the_code_measures_only_what_the_table_has() -> None:
    found = list(measurements())
    assert len(found) > 10
    for place, name, attributes in found:
        assert name in METRICS, f"{place}: {name} is not in otel_ir.telemetry.METRICS"
        assert attributes <= set(METRICS[name].attributes), f"{place}: {name} has no attribute {attributes - set(METRICS[name].attributes)}"


def test_docs_have_every_metric() -> None:
    page = (DOCS / "alerts.md").read_text(encoding="utf-8")
    table = page.partition("<!-- metrics -->\n")[2].partition("<!-- /metrics -->")[0]
    rows = ["| metric | kind | unit | attributes | meaning |", "|---|---|---|---|---|"]
    rows += [f"| `{name}` | {m.kind} | {m.unit} | {', '.join(m.attributes)} | {m.meaning} |" for name, m in METRICS.items()]
    expected = "\n".join(rows) + "\n"
    assert table == expected, f"put this between the marks in docs/alerts.md:\n{expected}"


def section(mark: str) -> str:
    return (DOCS / "alerts.md").read_text(encoding="utf-8").partition(f"<!-- {mark} -->\n")[2].partition(f"<!-- /{mark} -->")[0]


@pytest.mark.parametrize(("mark", "table"), [("action-attributes", ACTION_ATTRIBUTES), ("incident-attributes", INCIDENT_ATTRIBUTES)])
def test_docs_have_every_attribute_of_changes(mark: str, table: Mapping[str, Attribute[Any]]) -> None:
    rows = ["| attribute | meaning |", "|---|---|", *(f"| `{name}` | {attribute.meaning} |" for name, attribute in table.items())]
    assert section(mark) == "\n".join(rows) + "\n"


def test_docs_have_every_state_that_is_told() -> None:
    rows = ["| state | severity of the log record | status of the span |", "|---|---|---|"]
    rows += [f"| `{state}` | {ACTION_SEVERITY[state].name} | {'error' if state in OUR_FAULT else ''} |" for state in TOLD]
    assert section("containment-states") == "\n".join(rows) + "\n"


def test_the_alerting_rules_of_the_docs_ask_for_metrics_that_exist(telemetry: Telemetry) -> None:
    telemetry.add("otel_ir.actions", adapter="guard", verb="pause_agent", state="violated", mode="enforce")
    telemetry.set("otel_ir.export.failing", 0, signal="logs")
    telemetry.set("otel_ir.drill.age", 1)
    telemetry.set("otel_ir.drill.passed", 1)
    names = {sample.name for family in text_string_to_metric_families(telemetry.render()) for sample in family.samples}
    (rules,) = re.findall(r"```yaml\n(# otel-ir-rules.yaml.*?)```", (DOCS / "alerts.md").read_text(encoding="utf-8"), re.DOTALL)
    for rule in yaml.safe_load(rules)["groups"][0]["rules"]:
        assert set(re.findall(r"otel_ir_\w+", rule["expr"])) <= names, rule["alert"]


def test_docs_have_every_attribute() -> None:
    page = (DOCS / "alerts.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `([a-z_.]+)` \|", page.partition("## Attributes of an alert")[2].partition("\n## ")[0], re.MULTILINE)
    assert sorted(documented) == sorted([*ATTRIBUTES, COUNT])
