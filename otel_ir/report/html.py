"""The report as one HTML file that asks for nothing: no script, no request, its only style sheet inside and named by its digest.

Every text goes through the template's autoescaping; pictures are built as elements (``drawing``). A Content-Security-Policy in the page
forbids whatever a mistake in either could let through.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template, select_autoescape
from markupsafe import Markup

from otel_ir.investigate.model import Outside, Part, Statement
from otel_ir.model import SEVERITIES
from otel_ir.model_lifecycle import ActionState, IncidentState
from otel_ir.report.fill import Written
from otel_ir.report.model import Report
from otel_ir.report.text import visible

POLICY = "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def to_html(report: Report, written: Written) -> str:
    """The page; the same report and the same written parts give the same bytes."""
    style = _resource("report.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    known = {key for block in report.sections for one in block.blocks if type(one).__name__ == "Grid" for key in _ids(block.key, one)}
    page = _template().render(
        report=report,
        heading=visible(str(report.facts.get("title") or report.incident_id)),
        badges=_badges(report),
        legends=LEGENDS,
        style=Markup(style),  # noqa: S704  # our own file
        policy=POLICY.format(digest=digest),
        parts=written.filled(report.defaults),
        kept=written.kept(report.defaults),
        anchors=known,
    )
    return page.encode("utf-8", "replace").decode()


LEGENDS: dict[str, tuple[tuple[str, str], ...]] = {
    "timeline": (
        ("asked", "request"), ("origin", "where it began"), ("call", "call"), ("cited", "call that an alert cites"),
        ("refused", "refused call"), ("alert", "alert"), ("waiting", "dispatched"), ("applied", "acknowledged, not proven"),
        ("verified", "verified"),
    ),
    "flow": (
        ("given", "given to the agent"), ("origin-box", "brought it in"), ("outside", "destination named by such text"),
        ("order", "told in text that reads like instructions"), ("carry", "content taken along"),
    ),
}  # fmt: skip
"""Figure -> what its marks mean."""


def _badges(report: Report) -> list[tuple[str, str]]:
    facts = report.facts
    named = [
        ("incident", report.incident_id),
        ("agent", facts.get("agent_id")),
        ("severity", facts.get("severity")),
        ("state", facts.get("state")),
    ]
    return [(name, visible(str(value))) for name, value in named if value] + ([("drill", "yes")] if facts.get("drill") else [])


def _lines(text: str) -> str:
    """What a person wrote: its lines stay lines."""
    return "\n".join(visible(line, len(line)) for line in text.split("\n"))


def _state(cell: Statement) -> Markup:
    """The class of a cell that is the state of an action."""
    word = cell.text.replace(" ", "_")
    return Markup(' class="st {}"').format(word.replace("_", "-")) if word in set(ActionState) else Markup("")


def _word(text: str) -> str:
    """A class name, of words that the style sheet knows."""
    return text if text in (*SEVERITIES, *IncidentState) else ""


def _ids(section: str, grid: Any) -> list[str]:
    """Spans that have a row of their own in the evidence table."""
    return [row[0].text for row in grid.rows] if section == "evidence" else []


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=select_autoescape(default=True, default_for_string=True), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["visible"] = visible
    environment.filters["kind"] = lambda block: type(block).__name__
    environment.filters |= {"lines": _lines, "state": _state, "word": _word}
    environment.tests["outside"] = _is_outside
    environment.filters["drawn"] = Markup  # pictures are built by ``drawing``, element by element
    return environment.from_string(_resource("report.html"))


def _is_outside(part: Part) -> bool:
    return isinstance(part, Outside)


def _resource(name: str) -> str:
    return files("otel_ir.report").joinpath(name).read_text(encoding="utf-8")
