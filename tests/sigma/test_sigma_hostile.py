"""Rules that were written to hurt cost themselves only: an error for that rule, in little time, and its neighbors run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from otel_ir.sigma.evaluate import Evaluator
from otel_ir.sigma.load import read_library

GOOD = """\
title: Good
id: 6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a01
logsource: {product: windows}
detection: {selection: {f: x}, condition: selection}
"""


def rule(detection: str) -> str:
    return f"title: Hostile\nid: 6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a02\nlogsource: {{product: windows}}\ndetection:\n{detection}"


def laughs(levels: int) -> str:
    lines = ["  l0: &l0 {f: [a, a, a, a, a, a, a, a, a]}"]
    lines += [f"  l{at}: &l{at} [{', '.join([f'*l{at - 1}'] * 9)}]" for at in range(1, levels)]
    return "\n".join([*lines, f"  condition: l{levels - 1}"])


HOSTILE = {
    "a billion laughs": (rule(laughs(10)), "more than 100000 values, aliases counted"),
    "a list that holds itself": (rule("  a: &a [*a]\n  condition: a"), "an alias refers to what it is part of"),
    "a map that holds itself": (rule("  a: &a {f: *a}\n  condition: a"), "an alias refers to what it is part of"),
    "nested lists": (rule("  a: " + "[" * 500 + "]" * 500 + "\n  condition: a"), "nested more than 32 deep"),
    "brackets": (rule("  a: {f: x}\n  condition: " + "(a or " * 900 + "a" + ")" * 900), "nested"),
    "negations": (rule("  a: {f: x}\n  condition: " + "not " * 1500 + "a"), "nested"),
    "a long condition": (rule("  a: {f: x}\n  condition: " + " or ".join(["a"] * 5000)), "a condition of more than 8192 characters"),
    "values written out": (
        rule("  a: {f: [" + ", ".join(f"v{n}" for n in range(2000)) + "]}\n  condition: " + " and ".join(["a"] * 200)),
        "the condition writes out too many values",
    ),
    "many separate tests": (
        rule("  a:\n    f|startswith|all: [" + ", ".join(f"v{n}" for n in range(6000)) + "]\n  condition: a"),
        "more than 5000 tests",
    ),
    "a repetition of repetitions": (rule("  a: {f|re: '(((a{1,90}){1,90}){1,90}){1,90}'}\n  condition: a"), "is invalid"),
    "a long expression": (rule(f"  a: {{f|re: '{'a' * 5000}'}}\n  condition: a"), "longer than 4096 characters"),
    "a huge file": (rule("  a: {f: '" + "a" * 300_000 + "'}\n  condition: a"), "larger than 256 KiB"),
    "a Python object": (rule("  a: {f: !!python/object/apply:os.system [id]}\n  condition: a"), "could not determine a constructor"),
    "placeholders multiplied": (rule("  a: {f|windash: ' -a -b -c -d -e -f'}\n  condition: a"), "at most three dash occurrences"),
    "a number of thousands of digits": (rule(f"  a: {{f: {'9' * 5000}}}\n  condition: a"), "a value cannot be read"),
    "NUL": (rule('  a: {f: "x\0"}\n  condition: a'), "hostile.yml:5: not YAML: unacceptable character"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_error_for_that_rule_only(name: str, tmp_path: Path) -> None:
    text, expected = HOSTILE[name]
    (tmp_path / "hostile.yml").write_text(text)
    (tmp_path / "good.yml").write_text(GOOD)
    began = time.process_time()
    library = read_library([tmp_path])
    evaluator = Evaluator(library)
    assert any(expected in str(error) for error in library.errors), [str(error)[:300] for error in library.errors]
    assert all(error.path.endswith("hostile.yml") for error in library.errors)
    assert all(len(str(error)) < 1500 for error in library.errors)
    assert len(library.refused) == 1
    assert [rule_id[-2:] for rule_id, _ in evaluator.run(['{"f": "x"}'])] == ["01"]
    assert time.process_time() - began < 20


@pytest.mark.parametrize("pattern", ["^(a+)+$", "(a|a)*b", "(a|aa)+$", "^(([a-z])+.)+[A-Z]([a-z])+$", "(.*a){20}", "(?:a?){50}a{50}"])
def test_catastrophic_expressions_are_linear(pattern: str, tmp_path: Path) -> None:
    (tmp_path / "r.yml").write_text(rule(f"  a: {{f|re: '{pattern}'}}\n  condition: a"))
    library = read_library([tmp_path])
    evaluator = Evaluator(library)
    assert library.errors == []
    began = time.process_time()
    list(evaluator.run(['{"f": "' + "a" * 20_000 + '!"}'] * 3))
    assert time.process_time() - began < 20


def test_catastrophic_wildcards_are_linear(tmp_path: Path) -> None:
    (tmp_path / "r.yml").write_text(rule(f"  a: {{f: '{'*a' * 200}*b'}}\n  condition: a"))
    evaluator = Evaluator(read_library([tmp_path]))
    began = time.process_time()
    assert list(evaluator.run(['{"f": "' + "a" * 20_000 + '"}'])) == []
    assert time.process_time() - began < 20
