"""docs/rules.md: every error of its table comes as it stands there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

DOCS = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
TABLE = DOCS.split("### Errors")[1].split("\n## ")[0]
ROWS = [(row[1].replace("\\|", "|"), row[2]) for row in re.finditer(r"^\| `(.*)` \| (.*) \|$", TABLE, re.MULTILINE)]


def test_there_is_a_table() -> None:
    assert len(ROWS) > 20


@pytest.mark.parametrize(("detection", "expected"), ROWS)
def test_error(detection: str, expected: str, errors: Callable[..., list[str]]) -> None:
    head = "title: A\nid: 6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a01\nlogsource: {product: windows}\n"
    found = errors(f"{head}detection: {detection}\n")
    assert any(expected in line for line in found), found
    assert all(line.startswith("0.yml:") for line in found)
