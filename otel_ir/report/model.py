"""A post-mortem as one plain structure: sections of blocks of statements. JSON, Markdown and HTML are three ways to write it down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from otel_ir.investigate.model import Statement


class Paragraph(NamedTuple):
    """One statement. ``tone``: "" or ``warning``."""

    statement: Statement
    tone: str = ""


class Bullets(NamedTuple):
    """Statements without an order."""

    items: tuple[Statement, ...]


class Quote(NamedTuple):
    """Text from outside, as it was; ``statement`` says what it is."""

    statement: Statement
    text: str


class Grid(NamedTuple):
    """A table. ``columns`` are ours; a row has a statement for each. ``none``: what is said instead when there is no row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Statement, ...], ...]
    none: str


class Figure(NamedTuple):
    """A picture: ``timeline`` or ``flow``. ``svg``: empty if there is nothing to draw; ``description``: where it stands in words."""

    key: str
    title: str
    description: str
    svg: str


class Fill(NamedTuple):
    """A part that people write. ``ask`` says what belongs there; ``default`` stands there until somebody writes."""

    key: str
    ask: str
    default: str


class Item(NamedTuple):
    """An action item: what, why, and a part for owner, deadline and state."""

    action: Statement
    because: Statement
    fill: Fill


Block = Paragraph | Bullets | Quote | Grid | Figure | Fill | Item


class Section(NamedTuple):
    """``key`` is stable; the order of sections is that of the article and of SRE practice."""

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """``facts``: the article's fields and everything else as plain JSON data."""

    incident_id: str
    title: Statement
    sections: tuple[Section, ...]
    facts: dict[str, Any]

    @property
    def defaults(self) -> dict[str, str]:
        """Part for people -> what stands there until somebody writes."""
        return {fill.key: fill.default for fill in self.fills}

    @property
    def fills(self) -> tuple[Fill, ...]:
        """Every part that people write, in order."""
        blocks = (block for section in self.sections for block in section.blocks)
        return tuple(block if isinstance(block, Fill) else block.fill for block in blocks if isinstance(block, Fill | Item))
