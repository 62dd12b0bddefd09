"""The timeline as a picture: what the agent did, the alerts, each action through its states, the incident. Long waits are drawn shorter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

from otel_ir.investigate.model import ActionFacts, IncidentFacts, Investigation, Moment
from otel_ir.report.drawing import Drawing
from otel_ir.report.times import span

WIDTH, LEFT, RIGHT = 1060, 198, 108
LANE, TOP, FOOT = 34, 16, 46
MAX_ACTIONS = 8
LABEL_GAP = 74
"""Between two time labels."""
_DEAD = ("released", "expired", "failed", "dry_run")

Scale = Callable[[int], float]


def draw_timeline(found: Investigation) -> str:
    """Inline SVG; empty when there is nothing to draw."""
    times = sorted({one.at for one in found.timeline})
    if not times:
        return ""
    actions = found.facts.actions[:MAX_ACTIONS]
    height = TOP + LANE * (3 + len(actions)) + FOOT
    left_out = len(found.facts.actions) - len(actions)
    more = f"; {left_out} further actions are not drawn" if left_out > 0 else ""
    words = f"{len(found.timeline)} entries in order of time; waits are drawn on a logarithmic scale{more}."
    pen = Drawing("timeline", WIDTH, height, "Timeline from compromise to recovery", words)
    scale = _scale(times)
    base = found.compromise.at if found.compromise else times[0]
    bottom = height - FOOT
    _ticks(pen, found, times, base, scale, bottom)
    lanes = ["the agent", "alerts", *(_name(one) for one in actions), "the incident"]
    for place, name in enumerate(lanes):
        y = TOP + LANE * place + LANE / 2
        pen.line(LEFT, y, WIDTH - RIGHT, y, "lane")
        pen.text(LEFT - 12, y + 4, name, "lane-name", limit=28)
    _marks(pen, found.timeline, scale)
    for place, action in enumerate(actions):
        _bar(pen, action, scale, times[-1], TOP + LANE * (place + 2) + LANE / 2)
    _life(pen, found.facts, scale, times[-1], TOP + LANE * (len(lanes) - 1) + LANE / 2)
    return pen.svg()


def _name(action: ActionFacts) -> str:
    return f"{action.verb} · {action.adapter}"


def _scale(times: list[int]) -> Scale:
    """Waits by their logarithm, so that milliseconds and hours have room beside each other."""
    weights = [0.0]
    for earlier, later in pairwise(times):
        weights.append(weights[-1] + 0.15 + math.log10(1 + (later - earlier) / 50e6))
    width, total = WIDTH - LEFT - RIGHT - 24, weights[-1] or 1.0
    places = {at: LEFT + 12 + width * weight / total for at, weight in zip(times, weights, strict=True)}

    def place(at: int) -> float:
        return places.get(at) or places[min(times, key=lambda one: abs(one - at))]

    return place


def _ticks(pen: Drawing, found: Investigation, times: list[int], base: int, scale: Scale, bottom: float) -> None:
    """Labels of the moments that matter most, as many as fit."""
    facts = found.facts
    known = [base, facts.contained_at, facts.recovering_at, facts.closed_at, *(one.recorded_at for one in facts.alerts[:1])]
    wanted = [at for at in known if at in set(times)] + times
    taken: list[float] = []
    for at in wanted:
        x = scale(at)
        if all(abs(x - other) >= LABEL_GAP for other in taken):
            taken.append(x)
            pen.line(x, TOP - 6, x, bottom, "tick")
            offset = at - base
            pen.text(x, bottom + 18, "start" if offset == 0 else f"{'+' if offset > 0 else ''}{span(offset)}", "tick-label")
    pen.text(LEFT - 12, bottom + 18, "since it began", "axis-label")


_SHAPES: dict[str, str] = {"origin": "diamond", "asked": "ring", "call": "dot", "alert": "triangle"}


def _marks(pen: Drawing, moments: tuple[Moment, ...], scale: Scale) -> None:
    for one in moments:
        shape = _SHAPES.get(one.kind)
        if shape is None:
            continue
        x, y = scale(one.at), TOP + LANE / 2 + (LANE if one.kind == "alert" else 0)
        kind = {"origin": "mark-origin", "alert": "mark-alert", "asked": "mark-asked"}.get(one.kind, f"mark-call {one.mark}".strip())
        if shape == "diamond":
            element = pen.add("path", kind, d=f"M{x:.1f} {y - 9:.1f}l9 9l-9 9l-9-9z")
        elif shape == "triangle":
            element = pen.add("path", kind, d=f"M{x:.1f} {y - 9:.1f}l9 16h-18z")
        else:
            element = pen.add("circle", kind, cx=x, cy=y, r=5.5)
        pen.tip(element, one.statement.text)


def _segments(action: ActionFacts, last: int) -> Iterator[tuple[str, int, int]]:
    """(state, from, to), as drawn: an ended action ends there."""
    steps = action.steps
    for place, step in enumerate(steps):
        following = steps[place + 1].at if place + 1 < len(steps) else last
        if step.state not in _DEAD:
            yield step.state, step.at, following


def _bar(pen: Drawing, action: ActionFacts, scale: Scale, last: int, y: float) -> None:
    for state, start, end in _segments(action, last):
        x, width = scale(start), max(3.0, scale(end) - scale(start))
        pen.tip(pen.add("rect", f"bar {state}", x=x, y=y - 8, width=width, height=16, rx=3), f"{_name(action)}: {state}")
        if state == "verified" and width > 60:
            pen.text(x + width / 2, y + 4, "verified", "bar-label")
    if action.steps and action.state in _DEAD:
        x = scale(action.steps[-1].at)
        pen.line(x, y - 9, x, y + 9, f"end {action.state}")
    pen.text(WIDTH - RIGHT + 10, y + 4, action.state.replace("_", " "), f"state {action.state}")


def _life(pen: Drawing, facts: IncidentFacts, scale: Scale, last: int, y: float) -> None:
    points = [
        (facts.opened_at, "open"),
        (facts.contained_at, "contained"),
        (facts.recovering_at, "recovering"),
        (facts.closed_at, "closed"),
    ]
    known = [(at, state) for at, state in points if at]
    for place, (at, state) in enumerate(known):
        end = known[place + 1][0] if place + 1 < len(known) else last
        x, width = scale(at), max(3.0, scale(end) - scale(at))
        if state != "closed":
            pen.tip(pen.add("rect", f"life {state}", x=x, y=y - 8, width=width, height=16, rx=3), f"the incident is {state}")
            if width > 12 + 7 * len(state):
                pen.text(x + width / 2, y + 4, state, "bar-label")
    pen.text(WIDTH - RIGHT + 10, y + 4, facts.state, f"state {facts.state}")
