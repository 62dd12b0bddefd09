"""The generated pages are current, and the tables are what they claim to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_ir.model import EVENT_COLUMNS
from otel_ir.normalize.dialects import DIALECTS
from otel_ir.normalize.reference import event_schema
from otel_ir.normalize.table import Condition, Dialect, Unwrap, condition
from otel_ir.normalize.unwrap import UNWRAPPERS
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
    assert {step.via for dialect in DIALECTS for step in dialect.unwrap} <= UNWRAPPERS.keys()


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
