"""The data flow as a picture: who brought which value, into which call it went, and where that call sent it. Left to right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from otel_ir.investigate.model import Edge, Investigation
from otel_ir.investigate.sources import KINDS
from otel_ir.investigate.words import short
from otel_ir.provenance.values import DESTINATIONS
from otel_ir.report.drawing import Drawing

MAX_NODES = 12
MAX_ARROWS = 18
NODE_W, NODE_H, GAP_X, GAP_Y, EDGE = 150, 50, 136, 52, 16
LABEL = 20
"""Characters of a label on an arrow."""


@dataclass(slots=True)
class _Node:
    title: str
    subtitle: str
    kind: str
    depth: int = 0
    row: int = 0


@dataclass(slots=True)
class _Graph:
    nodes: dict[str, _Node] = field(default_factory=dict)
    arrows: list[tuple[str, str, str, str]] = field(default_factory=list)
    """(from, to, label, class)"""


def draw_flow(found: Investigation) -> str:
    """Inline SVG; empty when there is no edge."""
    graph = _graph(found)
    if not graph.arrows:
        return ""
    _layout(graph)
    columns = max(node.depth for node in graph.nodes.values()) + 1
    rows = max(node.row for node in graph.nodes.values()) + 1
    passing = sum(graph.nodes[end].depth - graph.nodes[start].depth > 1 for start, end, _, _ in graph.arrows)
    width = EDGE * 2 + columns * NODE_W + (columns - 1) * GAP_X
    height = EDGE * 2 + rows * NODE_H + (rows - 1) * GAP_Y + (12 + 18 * passing if passing else 0)
    words = "; ".join(f"{graph.nodes[start].title} to {graph.nodes[end].title}: {label}" for start, end, label, _ in graph.arrows)
    pen = Drawing("flow", width, height, "How the values travelled", words)
    marker = pen.add(
        "marker", "head", id="flow-head", viewBox="0 0 8 8", refX="7", refY="4", markerWidth="9", markerHeight="9", orient="auto"
    )
    marker.set("markerUnits", "userSpaceOnUse")
    marker.append(marker.makeelement("path", {"d": "M0 0L8 4L0 8z", "class": "head"}))
    labels = list(_arrows(pen, graph))
    for node in graph.nodes.values():
        x, y = _at(node)
        box = pen.add("rect", f"node {node.kind}", x=x, y=y, width=NODE_W, height=NODE_H, rx=8)
        pen.tip(box, f"{node.title}: {node.subtitle}")
        pen.text(x + NODE_W / 2, y + 21, node.title, "node-title", limit=18)
        pen.text(x + NODE_W / 2, y + 38, node.subtitle, "node-subtitle", limit=26)
    for x, y, label, kind in labels:
        pen.text(x, y, label, f"arrow-label {kind}", limit=LABEL)
    return pen.svg()


def _graph(found: Investigation) -> _Graph:
    graph = _Graph()
    origin = found.compromise
    first = [edge for edge in found.edges if origin and edge.span_id == origin.span_id]
    orders = [edge for edge in found.edges if edge.signs]
    for edge in dict.fromkeys((*(origin.path if origin else ()), *first, *orders, *found.edges)):
        start, end = _source_node(graph, edge, found), f"call:{edge.span_id}"
        new = {start[0], end} - graph.nodes.keys()
        if len(graph.nodes) + len(new) > MAX_NODES or len(graph.arrows) >= MAX_ARROWS or start[0] == end:
            continue
        graph.nodes.setdefault(*start)
        graph.nodes.setdefault(end, _Node(edge.tool or "a tool", "call", "call"))
        kind = "carry" if edge.role == "carry" else "order" if edge.signs else "steer"
        graph.arrows.append((start[0], end, _label(edge), kind))
    _destinations(graph, found)
    return graph


def _source_node(graph: _Graph, edge: Edge, found: Investigation) -> tuple[str, _Node]:
    source = edge.source
    began = found.compromise is not None and source.span_id == found.compromise.span_id and source.kind == found.compromise.kind
    if source.kind == "tool_result" and source.span_id:
        key = f"call:{source.span_id}"
        if began and key in graph.nodes:
            graph.nodes[key].kind, graph.nodes[key].subtitle = "origin", "its result brought it in"
        return key, _Node(source.tool or "a tool", "its result brought it in" if began else "call", "origin" if began else "call")
    key = f"{source.kind}:{source.span_id}"
    return key, _Node(KINDS.get(source.kind, "a text"), "where it began" if began else "given to the agent", "origin" if began else "given")


def _destinations(graph: _Graph, found: Investigation) -> None:
    for place in found.destinations:
        calls = [f"call:{span}" for span in place.spans if f"call:{span}" in graph.nodes]
        if not calls or place.kind not in DESTINATIONS or len(graph.nodes) >= MAX_NODES + 4:
            continue
        key = f"to:{place.kind}:{place.text}"
        graph.nodes[key] = _Node(short(place.text).text, "destination", "outside" if place.from_outside else "place")
        graph.arrows += [(call, key, "", "sent") for call in calls[:3]]


def _label(edge: Edge) -> str:
    if edge.role == "carry":
        return f"{edge.size:,} characters"
    if edge.value.kind == "secret":
        return f"{edge.argument}: (secret)"
    return f"{edge.argument}: {short(edge.shown).text}" if edge.argument else short(edge.shown).text


def _layout(graph: _Graph) -> None:
    """Depth by the longest way there; time orders calls, so there is no circle, and the number of rounds is bounded anyway."""
    for _ in range(len(graph.nodes)):
        for start, end, _, _ in graph.arrows:
            graph.nodes[end].depth = max(graph.nodes[end].depth, min(graph.nodes[start].depth + 1, MAX_NODES))
    taken: dict[int, int] = {}
    for node in graph.nodes.values():
        node.row = taken.get(node.depth, 0)
        taken[node.depth] = node.row + 1


def _at(node: _Node) -> tuple[float, float]:
    return EDGE + node.depth * (NODE_W + GAP_X), EDGE + node.row * (NODE_H + GAP_Y)


def _arrows(pen: Drawing, graph: _Graph) -> Iterator[tuple[float, float, str, str]]:
    """Draws them; -> where their labels go. Those that pass a column go below it."""
    between: dict[tuple[str, str], int] = {}
    below = 0
    for start, end, label, kind in graph.arrows:
        nth = between.get((start, end), 0)
        between[start, end] = nth + 1
        first, last = graph.nodes[start], graph.nodes[end]
        x1, y1 = _at(first)
        x2, y2 = _at(last)
        x1, y1, x2, y2 = x1 + NODE_W, y1 + NODE_H / 2 + 9 * nth, x2 - 2, y2 + NODE_H / 2 + 9 * nth
        if last.depth - first.depth <= 1:
            bend = (x2 - x1) / 2
            path = f"M{x1:.1f} {y1:.1f}C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
            place = ((x1 + x2) / 2, (y1 + y2) / 2 - 7 + 22 * nth)
        else:
            x1, y1, y2 = x1 - NODE_W / 2, y1 + NODE_H / 2, y2 + NODE_H / 4
            floor = max(y1, y2) + 20 + 18 * below
            below += 1
            path = f"M{x1:.1f} {y1:.1f}C{x1:.1f} {floor:.1f} {x1 + 30:.1f} {floor:.1f} {x1 + 60:.1f} {floor:.1f}H{x2 - 60:.1f}"
            path += f"C{x2 - 20:.1f} {floor:.1f} {x2 - 30:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
            place = ((x1 + x2) / 2, floor - 6)
        pen.add("path", f"arrow {kind}", d=path, marker_end="url(#flow-head)")
        if label:
            yield *place, label, kind
