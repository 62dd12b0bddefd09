"""Processing pipelines and placeholders: what is refused, and that nothing in them runs, reads or fetches."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from otel_ir.errors import RuleError
from otel_ir.sigma.load import load_library, read_library
from otel_ir.sigma.pipeline import load_pipeline

RULE = """\
title: A
id: 6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a01
logsource: {product: windows, category: process_creation}
detection:
  selection:
    User|expand: '%admins%'
  condition: selection
"""
OTHER = RULE.replace("7a01", "7a02").replace("|expand: '%admins%'", ": ann").replace("title: A", "title: B")


def wrong(folder: Path, text: str, *, placeholders: bool = False) -> str:
    file = folder / "given.yml"
    file.write_text(text)
    with pytest.raises(RuleError) as caught:
        load_pipeline([] if placeholders else [file], file if placeholders else None)
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "transformations:\n  - {type: command_placeholders, command: [touch, SPY]}",
            "given.yml:2:5: the transformation 'command_placeholders' is refused: write the values into 'vars', or use --placeholders",
        ),
        ("transformations: [{type: http_placeholders, url: 'http://127.0.0.1/x'}]", "'http_placeholders' is refused"),
        ("transformations: [{type: file_placeholders, path: /etc/passwd}]", "'file_placeholders' is refused"),
        ("transformations: [{type: nest, items: [{type: command_placeholders, command: x}]}]", "'command_placeholders' is refused"),
        ("transformations: [{type: field_name_maping}]", "given.yml:1:1: "),
        ("transformations: [5]", "given.yml:1:1: "),
        ("transformation: []", "unknown key 'transformation': did you mean 'transformations'?"),
        ("a: [", "given.yml:"),
        ("", "0 documents instead of one"),
        ("name: a\n---\nname: b", "2 documents instead of one"),
        ("- a", "a rule is a mapping"),
        ("transformations: [{type: replace_string, regex: '(?=a)b', replacement: c}]", "given.yml:1:1: "),
    ],
)
def test_pipelines_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str) -> None:
    monkeypatch.setenv("PYSIGMA_ALLOW_EXTERNAL_SOURCES", "1")
    monkeypatch.chdir(tmp_path)
    assert expected in wrong(tmp_path, text)
    assert not (tmp_path / "SPY").exists()


def test_templates_that_name_python_files_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "spy.py").write_text("open('SPY', 'w'); vars = {}")
    pipeline = {"transformations": [], "postprocessing": [{"type": "template", "template": "x", "vars": str(tmp_path / "spy.py")}]}
    (tmp_path / "p.yml").write_text(yaml.safe_dump(pipeline))
    assert load_pipeline([tmp_path / "p.yml"]) is not None
    assert not Path("SPY").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("admins: []", "given.yml:1:1: the values of 'admins' are no texts or numbers: NAME: [value, value]"),
        ("admins: {a: b}", "are no texts or numbers"),
        ("admins: [true]", "are no texts or numbers"),
        ("- a", "mapping"),
    ],
)
def test_placeholders_that_are_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in wrong(tmp_path, text, placeholders=True)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match=r"none\.yml: cannot be read: No such file"):
        load_pipeline([tmp_path / "none.yml"])


def test_a_pipeline_that_fails_a_rule_fails_only_that_rule(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "a.yml").write_text(RULE)
    (tmp_path / "rules" / "b.yml").write_text(OTHER)
    (tmp_path / "p.yml").write_text("transformations: [{type: value_placeholders}]")
    library = read_library([tmp_path / "rules"], load_pipeline([tmp_path / "p.yml"]))
    assert [entry.sigma.title for entry in library.entries] == ["B"]
    assert [str(error).replace(f"{tmp_path}/", "") for error in library.errors] == [
        "rules/a.yml:4:1: Placeholder replacement variable 'admins' doesn't exists.: says the processing pipeline"
    ]
    assert list(library.refused.values()) == ["A"]


def test_pipelines_run_by_priority_and_rules_may_become_ours(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "b.yml").write_text(OTHER)
    (tmp_path / "1.yml").write_text("priority: 20\ntransformations: [{type: field_name_mapping, mapping: {account: user.id}}]")
    (tmp_path / "2.yml").write_text("priority: 10\ntransformations: [{type: field_name_mapping, mapping: {User: account}}]")
    (tmp_path / "3.yml").write_text("transformations: [{type: change_logsource, product: opentelemetry, category: ai_agent}]")
    library = load_library([tmp_path / "rules"], load_pipeline([tmp_path / f"{name}.yml" for name in "123"]))
    assert library.errors == []
    (rule,) = library.ruleset.rules
    assert rule.fields == {"user.id", "event.type"}
