"""The report as Markdown. Values from outside stand in code spans, where nothing means anything; parts for people are kept."""

from __future__ import annotations

from collections.abc import Iterator

from otel_ir.investigate.model import Outside, Statement
from otel_ir.report.fill import KEPT, Written, begin, end, seal
from otel_ir.report.model import Block, Bullets, Figure, Fill, Grid, Item, Paragraph, Quote, Report
from otel_ir.report.text import code_span, markdown_text

WRITE_HERE = "Write between the two marker lines below; what stands there is kept when the report is made anew."


def to_markdown(report: Report, written: Written) -> str:
    """The file's text; the same report and the same written parts give the same bytes."""
    generated: list[str] = []
    filled = written.filled(report.defaults)
    lines: list[str] = []

    def ours(*added: str) -> None:
        generated.extend(added)
        lines.extend(added)

    def theirs(fill: Fill) -> None:
        text = filled.get(fill.key)
        if text is None:
            generated.extend(fill.default.split("\n"))
        lines.extend([begin(fill.key, fill.default), *(fill.default if text is None else text).split("\n"), end(fill.key), ""])

    ours(f"# {statement(report.title)}", "", WRITE_HERE, "")
    for section in report.sections:
        ours(f"## {section.title}", "")
        for block in section.blocks:
            if isinstance(block, Fill):
                ours(f"*To fill in: {markdown_text(block.ask)}*", "")
                theirs(block)
            elif isinstance(block, Item):
                ours(f"### {statement(block.action)}", "", statement(block.because), "")
                theirs(block.fill)
            else:
                ours(*_block(report, block), "")
    kept = written.kept(report.defaults)
    if kept:
        ours("## Kept", "", "Written by somebody, and without a place in the parts above.", "")
        lines += [begin(KEPT, ""), *kept.split("\n"), end(KEPT), ""]
    return "\n".join([*lines, seal(generated), ""])


def statement(one: Statement, *, cell: bool = False) -> str:
    """A statement in one line."""
    text = "".join(code_span(part.text, cell=cell) if isinstance(part, Outside) else markdown_text(part) for part in one.parts)
    if not one.spans:
        return text
    spans = ", ".join(code_span(span, cell=cell) for span in one.spans)
    return f"{text} (span {spans})" if len(one.spans) == 1 else f"{text} (spans {spans})"


def _block(report: Report, block: Block) -> Iterator[str]:
    match block:
        case Paragraph():
            text = statement(block.statement)
            yield f"**Note:** {text}" if block.tone else text
        case Bullets():
            yield from (f"* {statement(item)}" for item in block.items)
        case Quote():
            yield from (statement(block.statement), "", code_span(block.text))
        case Grid():
            yield from _grid(block)
        case Figure():
            yield f"*{block.title}: drawn in {markdown_text(report.incident_id)}.html.* {markdown_text(block.description)}"


def _grid(grid: Grid) -> Iterator[str]:
    if not grid.rows:
        yield grid.none
        return
    yield f"**{grid.caption}**"
    yield ""
    yield f"| {' | '.join(grid.columns)} |"
    yield f"|{'---|' * len(grid.columns)}"
    yield from (f"| {' | '.join(statement(cell, cell=True) for cell in row)} |" for row in grid.rows)
