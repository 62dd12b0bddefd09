"""The Markdown file: values from outside mean nothing in it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from thorough import examples

from otel_ir.investigate.model import Outside, say
from otel_ir.report import build_report
from otel_ir.report.fill import Written
from otel_ir.report.markdown import statement, to_markdown
from otel_ir.report.text import code_span, visible
from tests.investigate.story import demo_incident, demo_rows, look
from tests.report.pages import PAYLOADS, hostile_report

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
INERT = {
    "heading_open", "heading_close", "paragraph_open", "paragraph_close", "inline", "text", "code_inline", "bullet_list_open",
    "bullet_list_close", "list_item_open", "list_item_close", "em_open", "em_close", "strong_open", "strong_close", "table_open",
    "table_close", "thead_open", "thead_close", "tbody_open", "tbody_close", "tr_open", "tr_close", "th_open", "th_close", "td_open",
    "td_close", "code_block", "softbreak",
}  # fmt: skip
MARKER = re.compile(r"^\s*(<!-- /?fill:[a-z-]+(?: [0-9a-f]{8})? -->|<!-- lines:[ 0-9a-f]* -->)\s*$", re.MULTILINE)


def _tokens(text: str) -> list[Token]:
    return [token for block in PARSER.parse(text) for token in (block, *(block.children or ()))]


def _shape(text: str) -> list[str]:
    return [token.type for token in _tokens(text)]


@pytest.mark.parametrize("text", PAYLOADS, ids=range(len(PAYLOADS)))
def test_hostile_texts_mean_nothing(text: str) -> None:
    written = to_markdown(hostile_report(text), Written())
    for token in _tokens(written):
        if token.type in ("html_block", "html_inline"):
            # A marker line, and what stands between two of them as long as nobody wrote: ours.
            assert token.content.startswith(("<!-- fill:", "<!-- /fill:", "<!-- lines:"))
            assert text[:20] not in MARKER.sub("", token.content)
        else:
            assert token.type in INERT, (token.type, token.content)
    assert not [char for char in "\x1b\u202e\u2066\u200b\ufeff\x07" if char in written]


@pytest.mark.parametrize("text", PAYLOADS, ids=range(len(PAYLOADS)))
def test_no_text_changes_the_shape_of_the_document(text: str) -> None:
    # Markers and structure are exactly those of a harmless text: nothing was opened, closed, or split.
    def lines(value: str) -> list[str]:
        return MARKER.findall(to_markdown(hostile_report(value), Written()))

    assert [re.sub(r" [0-9a-f]{8}", "", one) for one in lines(text)[:-1]] == [
        re.sub(r" [0-9a-f]{8}", "", one) for one in lines("harmless")[:-1]
    ]


@settings(max_examples=examples(200))
@given(st.text(max_size=80))
def test_a_value_is_one_code_span_in_a_line_and_in_a_cell(text: str) -> None:
    in_line = _tokens(f"before {code_span(text)} after")
    assert [token.type for token in in_line] == ["paragraph_open", "inline", "text", "code_inline", "text", "paragraph_close"]
    shown = visible(text).strip(" ") or "(empty)"
    assert in_line[3].content == shown
    table = _shape(f"| a | b |\n|---|---|\n| {code_span(text, cell=True)} | x |\n")
    assert table.count("td_open") == 2
    assert table.count("code_inline") == 1


@given(st.text(max_size=80), st.text(max_size=20))
def test_a_statement_is_one_line(text: str, more: str) -> None:
    written = statement(say("A tool ", Outside(text), " and *ours* | <b>", Outside(more), ".", spans=["ab", text]))
    assert "\n" not in written
    assert set(_shape(written)) <= {"paragraph_open", "inline", "text", "code_inline", "paragraph_close"}


def test_the_demo_in_markdown_has_its_sections_and_its_words() -> None:
    text = to_markdown(build_report(look(demo_incident(), demo_rows())), Written())
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
        "Summary", "Impact", "Timeline", "Root cause", "Detection and containment", "Data and systems affected", "What prevents recurrence",
        "Action items", "Lessons", "Evidence",
    ]  # fmt: skip
    assert "The agent was contained: `revoke_tools` through `guard` was verified at 2026-01-01 12:00:02.000 UTC" in text
    assert "Deadline: 2026-01-03 12:00 UTC (proposed)" in text
    assert "customers.example" not in text
