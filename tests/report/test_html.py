"""The HTML page: hostile texts stay texts, nothing is asked for, the policy forbids the rest, and it can be read by everybody."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thorough import examples

from otel_ir.report import build_report
from otel_ir.report.fill import Written
from otel_ir.report.text import visible
from tests.investigate.story import FULL, NOON, action, alert, demo_incident, demo_rows, incident, look
from tests.report.pages import PAYLOADS, hostile_report, nodes, page, text_of

TAGS = {
    "#document", "!doctype", "#text", "html", "head", "meta", "title", "style", "body", "a", "header", "p", "h1", "span", "nav", "ol",
    "li", "main", "section", "h2", "bdi", "div", "code", "table", "caption", "tbody", "thead", "tr", "th", "td", "ul", "figure",
    "figcaption", "blockquote", "i", "footer", "svg", "desc", "line", "text", "path", "rect", "circle", "marker",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "class", "href", "id", "aria-label", "aria-labelledby", "scope", "role",
    "tabindex", "viewbox", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "rx", "d", "width", "height", "refx", "refy",
    "markerwidth", "markerheight", "markerunits", "orient", "marker-end", "viewBox", "refX", "refY", "markerWidth", "markerHeight",
    "markerUnits",
}  # fmt: skip


def _is_inert(html: str) -> None:
    """Only elements and attributes that our template and pen make; nothing that loads, links out, or runs."""
    for node in nodes(html):
        assert node.name in TAGS, node.name
        for name, value in (getattr(node, "attrs", None) or {}).items():
            assert name in ATTRIBUTES, (node.name, name)
            assert name != "href" or value.startswith("#"), value
            assert name != "marker-end" or value == "url(#flow-head)"
    # A form of a comment in the text would be one in the page too: there is none at all.
    assert "<!--" not in html
    styles = [node for node in nodes(html) if node.name == "style"]
    assert len(styles) == 1
    assert "url(" not in styles[0].children[0].data
    assert "@import" not in styles[0].children[0].data


@pytest.mark.parametrize("text", PAYLOADS, ids=range(len(PAYLOADS)))
def test_hostile_texts_stay_texts(text: str) -> None:
    html = page(hostile_report(text), Written(parts={"summary": text, "kept": text}, loose=[text]))
    _is_inert(html)
    assert visible(text[:40]) in text_of(html)
    for char in "\x1b\u202e\u2066\u200b\ufeff\x07":
        assert char not in html


@settings(max_examples=examples(25))
@given(st.text(min_size=1, max_size=60))
def test_any_text_stays_a_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    _is_inert(page(hostile_report(text), Written(parts={"lessons": text})))


def test_a_huge_text_does_not_make_a_huge_page() -> None:
    assert len(page(hostile_report("x" * 1_000_000))) < 400_000


def test_the_policy_allows_only_the_style_sheet_inside() -> None:
    html = page(build_report(look(demo_incident(), demo_rows())))
    policy = next(
        node.attrs["content"] for node in nodes(html) if (getattr(node, "attrs", None) or {}).get("http-equiv") == "Content-Security-Policy"
    )
    style = next(node for node in nodes(html) if node.name == "style").children[0].data
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert " style=" not in html


def test_sections_stand_in_the_order_of_the_practice() -> None:
    report = build_report(look(demo_incident(), demo_rows()))
    assert [section.title for section in report.sections] == [
        "Summary", "Impact", "Timeline", "Root cause", "Detection and containment", "Data and systems affected",
        "What prevents recurrence", "Action items", "Lessons", "Evidence",
    ]  # fmt: skip
    html = page(report)
    found = re.findall(r'<section id="([a-z-]+)"', html)
    assert found == [section.key for section in report.sections]


def test_it_can_be_read_without_seeing() -> None:
    html = page(build_report(look(demo_incident(), demo_rows())))
    everything = list(nodes(html))
    ids = [node.attrs["id"] for node in everything if (getattr(node, "attrs", None) or {}).get("id")]
    assert len(ids) == len(set(ids))
    for node in everything:
        attributes = getattr(node, "attrs", None) or {}
        if node.name == "svg":
            assert attributes["role"] == "img"
            assert set(attributes["aria-labelledby"].split()) <= set(ids)
        if node.name == "a":
            assert attributes["href"][1:] in ids
        if node.name == "table":
            assert node.children[0].name == "caption"
        if node.name == "th":
            assert attributes["scope"] in ("col", "row")
    assert next(node for node in everything if node.name == "html").attrs["lang"] == "en"
    assert sum(node.name == "h1" for node in everything) == 1


def test_both_pictures_are_there_and_say_the_same_in_words() -> None:
    html = page(build_report(look(demo_incident(), demo_rows())))
    assert html.count("<svg ") == 2
    assert "read_ticket to send_email: to: audit@collector.example" in html
    assert ">verified<" in html


def test_without_evidence_it_says_so_and_draws_what_there_is() -> None:
    html = page(build_report(look(incident([alert([1], 0.5)]), [])))
    assert html.count("<svg ") == 1
    assert "Not known: the evidence holds none of the events" in html
    _is_inert(html)


def test_a_drill_and_a_broken_containment_are_said() -> None:
    broken = action("revoke_tools", (*FULL[:4], ("violated", 90000.0)))
    html = page(build_report(look(incident([alert([3, 4], 1.5)], (broken,), drill=True, contained_at=NOON), demo_rows())))
    text = text_of(html)
    assert "This was a drill" in text
    assert "Violated afterwards: 1 of 1 actions" in text
    assert "1 d 0 h" in text


def test_without_any_action_it_says_so() -> None:
    assert "No containment action was asked for." in text_of(page(build_report(look(incident([alert([3, 4], 1.5)]), demo_rows()))))


def test_an_incident_without_anything_is_a_page() -> None:
    _is_inert(page(build_report(look(incident([]), []))))
