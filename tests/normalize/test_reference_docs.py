"""The generated pages are current, and the tables are what they claim to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_ir.model import EVENT_COLUMNS, EventType
from otel_ir.normalize.dialects import DIALECTS
from otel_ir.normalize.reference import dialects_markdown, event_schema, filled_columns, made_events
from otel_ir.normalize.table import NO_EVENT, Condition, Dialect, Remedy, Unwrap, condition
from otel_ir.normalize.unwrap import UNWRAPPERS, UNWRAPPERS_BESIDE
from tools import generate_docs


def test_generated_pages_are_current() -> None:
    assert generate_docs.outdated(generate_docs.DOCS) == [], "run python -m tools.generate_docs"


def test_check_tells_what_is_out_of_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(generate_docs, "DOCS", tmp_path)
    assert generate_docs.main(["--check"]) == 1
    assert "docs/dialects.md: out of date" in capsys.readouterr().out
    assert generate_docs.main([]) == 0
    assert generate_docs.main(["--check"]) == 0
    assert generate_docs.main(["--nonsense"]) == 2


def test_the_schema_has_every_column() -> None:
    assert list(event_schema()["properties"]) == list(EVENT_COLUMNS)


def test_dialects_are_named_once_and_unwrap_with_what_there_is() -> None:
    names = [dialect.name for dialect in DIALECTS]
    assert len(set(names)) == len(names)
    assert {step.via for dialect in DIALECTS for step in dialect.unwrap} <= UNWRAPPERS.keys() | UNWRAPPERS_BESIDE.keys()


def test_a_table_with_a_mistake_is_refused() -> None:
    for wrong in (
        {"classify": (("tool_cal", "x"),)},
        {"columns": {"gen_ai.tool.nam": ("x",)}},
        {"columns": {"otel_ir.tenant": ("x",)}},
        {"columns": {"gen_ai.tool.name": ("x#y",)}},
        {"bogus": {"nothing": ("x",)}},
    ):
        with pytest.raises(ValueError, match="dialect wrong: "):
            Dialect(name="wrong", about="", **wrong)  # type: ignore[arg-type]
    assert Dialect(name="right", about="", unwrap=(Unwrap("x", "members", ("y",)),), columns={"gen_ai.tool.name": ("x#y",)})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b", Condition("a.b", "?")),
        ("!a.b", Condition("a.b", "!")),
        ("a=x|y", Condition("a", "=", ("x", "y"))),
        ("@name^=x ", Condition("@name", "^=", ("x ",))),
        ("a$=.run", Condition("a", "$=", (".run",))),
        ("a*=x=y", Condition("a", "*=", ("x=y",))),
    ],
)
def test_conditions_read_as_written(text: str, expected: Condition) -> None:
    assert condition(text) == expected


def test_what_some_dialect_fills_and_makes() -> None:
    filled = filled_columns()
    assert {
        "event.type",
        "otel_ir.agent.id",
        "otel_ir.executed",
        "otel_ir.handoff.to",
        "gen_ai.tool.name",
        "otel_ir.arguments.size",
    } <= filled
    assert filled <= EVENT_COLUMNS.keys()
    assert {"tool_call", "model_output", "auth"} <= made_events() <= {*EventType, NO_EVENT}


def test_remedies_name_columns_and_are_printed() -> None:
    with pytest.raises(ValueError, match=r"dialect wrong: gen_ai\.tool\.nam"):
        Dialect(name="wrong", about="", remedies=(Remedy("X=1", ("gen_ai.tool.nam",)),))
    text = dialects_markdown()
    assert "| `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_ONLY` | `gen_ai.tool.call.arguments`, " in text
