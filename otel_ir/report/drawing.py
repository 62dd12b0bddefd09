"""A small pen for inline SVG: elements are built, never pasted together, so that nothing in a text can become an element.

Looks come from the page's style sheet by class: the page allows no style of its own (Content-Security-Policy).
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from otel_ir.report.text import visible


class Drawing:
    """``width`` by ``height`` in user units; it scales with the page. ``title`` and ``description`` are for those who do not see it."""

    def __init__(self, key: str, width: float, height: float, title: str, description: str) -> None:
        names = {"title": f"{key}-title", "desc": f"{key}-desc"}
        self.root = ET.Element(
            "svg",
            {
                "class": f"figure {key}",
                "viewBox": f"0 0 {number(width)} {number(height)}",
                "role": "img",
                "aria-labelledby": " ".join(names.values()),
            },
        )
        for tag, text in (("title", title), ("desc", description)):
            ET.SubElement(self.root, tag, {"id": names[tag]}).text = visible(text)

    def add(self, tag: str, kind: str, **values: float | str) -> ET.Element:
        """An element of class ``kind``; underscores in names are dashes."""
        attributes = {name.replace("_", "-"): value if isinstance(value, str) else number(value) for name, value in values.items()}
        return ET.SubElement(self.root, tag, {"class": kind, **attributes})

    def text(self, x: float, y: float, text: str, kind: str, *, limit: int = 40) -> None:
        """A label; what is longer than ``limit`` is cut, and whole in its tooltip."""
        shown = visible(text)
        label = self.add("text", kind, x=x, y=y)
        label.text = shown if len(shown) <= limit else shown[: limit - 1] + "…"
        if len(shown) > limit:
            ET.SubElement(label, "title").text = shown

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        """From here to there."""
        self.add("line", kind, x1=x1, y1=y1, x2=x2, y2=y2)

    def tip(self, element: ET.Element, text: str) -> None:
        """What is said when one points at it."""
        ET.SubElement(element, "title").text = visible(text)

    def svg(self) -> str:
        """As text, for the inside of an HTML page."""
        return ET.tostring(self.root, encoding="unicode")


def number(value: float) -> str:
    """At most one decimal."""
    return f"{value:.1f}".rstrip("0").rstrip(".")
