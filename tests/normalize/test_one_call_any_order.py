"""A framework, a client, servers and an SDK describe calls, some below others, some only at the same time: the final form against a naive
reference, whatever the order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from normalize.otlp_maker import NOW, span, traces
from normalize.test_logs_join_spans import Request, everything, records
from thorough import examples

from otel_ir.offline import final_form

_MS = 1_000_000
_GENAI, _MCP, _CLIENT = "opentelemetry.instrumentation.genai.langchain", "mcp-python-sdk", "opentelemetry.instrumentation.mcp"
_SDK, _CLI = "openinference.instrumentation.claude_agent_sdk", "com.anthropic.claude_code.tracing"
_TOP = 64
"""Number of the agent's span, which is not there."""


@dataclass(frozen=True)
class Part:
    """One span about a call. ``kind``: framework, client, server, ``way`` (between them), sdk, cli. Times in ms; ``parent``: a number."""

    number: int
    kind: str
    tool: str
    start: int
    end: int
    parent: int | None = None
    call: str = ""
    failed: bool = False


def sent(part: Part) -> Request:
    genai = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": part.tool}
    scope, attributes = {
        "framework": (_GENAI, genai | {"gen_ai.tool.call.id": part.call, "gen_ai.tool.call.arguments": '{"a": 1}'}),
        "client": (_CLIENT, {"traceloop.span.kind": "tool", "traceloop.entity.name": part.tool}),
        "server": (_MCP, genai | {"mcp.method.name": "tools/call"}),
        "way": (_MCP, {"mcp.method.name": "tools/call"}),
        "sdk": (_SDK, {"openinference.span.kind": "TOOL", "tool.name": f"mcp__crm__{part.tool}", "tool.id": part.call}),
        "cli": (_CLI, {"span.type": "tool", "gen_ai.tool.name": part.tool, "tool_use_id": part.call, "session.id": "s"}),
    }[part.kind]
    failed: dict[str, Any] = {"error.type": f"{part.kind}_error"} if part.failed else {}
    place = {"id": f"{part.number + 1:016x}", "parent": "" if part.parent is None else f"{part.parent + 1:016x}"}
    times = {"start": NOW + part.start * _MS, "end": NOW + part.end * _MS}
    return "traces", traces(span(attributes | failed, status=2 if part.failed else 0, **place, **times), scope=scope)


def together(world: Iterable[Part]) -> list[set[Part]]:
    """The naive reference: which parts are one call."""
    parts = {part.number: part for part in world}
    groups = {number: {part} for number, part in parts.items() if part.kind != "way"}

    def join(one: int, other: int) -> None:
        groups[one] |= groups[other]
        for part in groups[one]:
            groups[part.number] = groups[one]

    first = {part.call: part.number for part in parts.values() if part.kind in ("sdk", "cli")}
    for part in parts.values():
        if part.kind in ("sdk", "cli"):
            join(first[part.call], part.number)
    inner, met = set(), set()
    for part in sorted(parts.values(), key=lambda part: (part.start, part.number)):
        above = parts.get(part.parent) if part.parent is not None else None
        while above is not None and above.kind == "way":
            above = parts.get(above.parent) if above.parent is not None else None
        if part.kind in ("client", "server") and above and above.tool == part.tool and above.number not in met:
            inner.add(part.number)
            met.add(above.number)
            join(above.number, part.number)
    servers = [part for part in parts.values() if part.kind == "server" and part.number not in inner]
    fits = []
    for server in servers:
        for call in first.values():
            start, end = min(one.start for one in groups[call]), max(one.end for one in groups[call])
            if parts[call].tool == server.tool and start - 50 <= server.start and server.end <= end + 50:
                fits.append((abs(server.start - start), server.number, call))
    for _, server, call in sorted(fits):
        served = any(one.kind == "server" for one in groups[call])
        if not served and not any(one.kind in ("sdk", "cli") for one in groups[server]):
            join(call, server)
    return [group for number, group in groups.items() if number == min(part.number for part in group)]


SHAPES = (
    ("framework",), ("framework", "server"), ("framework", "client", "server"), ("framework", "server", "server"),
    ("framework", "way", "server"), ("framework", "client", "way", "server"), ("client", "server"), ("client",), ("server",),
    ("server", "server"), ("way", "server"),
)  # fmt: skip
"""Spans each below the one before."""


@st.composite
def worlds(draw: st.DrawFn) -> list[Part]:
    """Up to three calls, some of them at the same time; some spans get lost, some calls are tried twice below one span."""
    parts: list[Part] = []
    for call in range(draw(st.integers(1, 3))):
        tool, start = draw(st.sampled_from(["lookup", "send"])), draw(st.sampled_from([0, 0, 30, 200, 5000])) + call
        if draw(st.booleans()):
            failed = draw(st.booleans())
            for kind in draw(st.sampled_from([("sdk",), ("cli",), ("sdk", "cli")])):
                parts.append(Part(len(parts), kind, tool, start, start + 400, _TOP, f"call-{call}", failed))
        shape = draw(st.sampled_from([(), *SHAPES] if parts else SHAPES))
        parent: int | None = _TOP if draw(st.booleans()) else None
        for depth, kind in enumerate(shape, start=1):
            at = start + 10 * depth
            parts.append(Part(len(parts), kind, tool, at, at + 300 - 20 * depth, parent, f"call-{call}f", draw(st.booleans())))
            below, parent = parent, parts[-1].number
            if kind == "server" and draw(st.integers(0, 3)) == 0:
                parts.append(Part(len(parts), kind, tool, at + 5, at + 90, below))
    kept = draw(st.lists(st.sampled_from(parts), min_size=1, max_size=7, unique=True))
    return sorted(kept, key=lambda part: part.number)


def check(world: list[Part], orders: Iterable[Iterable[Part]]) -> None:
    groups = together(world)
    before: list[str] | None = None
    for order in orders:
        found = final_form(records([sent(part) for part in order]))
        events = found.filter(pl.col("otel_ir.duplicate_of").is_null() & (pl.col("event.type") == "tool_call"))
        expected = sorted(any(part.failed for part in group) for group in groups)
        assert sorted(events["error"]) == expected, [part.kind for part in order]
        now = everything(found)
        assert before is None or now == before, [part.kind for part in order]
        before = now


@settings(max_examples=examples(25), deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_calls_are_told_apart_whatever_the_order(world: list[Part], chance: Any) -> None:
    check(world, [world, world[::-1], *(chance.sample(world, len(world)) for _ in range(3))])


@pytest.mark.parametrize(
    ("world", "count"),
    [
        # A server below a framework's span is of that call, whatever else goes on with a tool of that name.
        ([Part(0, "framework", "t", 0, 300), Part(1, "server", "t", 10, 200, 0), Part(2, "sdk", "t", 5, 400, None, "c")], 2),
        ([Part(0, "framework", "t", 0, 300), Part(1, "client", "t", 10, 250, 0), Part(2, "server", "t", 20, 200, 1)], 1),
        ([Part(0, "framework", "t", 0, 300), Part(1, "server", "t", 10, 250, 0, failed=True), Part(2, "server", "t", 20, 200, 1)], 1),
        # A request that failed is no failure of the call, whichever comes first.
        ([Part(0, "framework", "t", 0, 300), Part(1, "way", "t", 10, 250, 0, failed=True)], 1),
        # Of two calls at the same time each has its server.
        (
            [
                Part(0, "sdk", "t", 0, 400, None, "a"), Part(1, "sdk", "t", 100, 450, None, "b"),
                Part(2, "server", "t", 110, 300), Part(3, "server", "t", 10, 200),
            ],
            2,
        ),
        # The second try below one span is a call of its own.
        ([Part(0, "framework", "t", 0, 300), Part(1, "server", "t", 10, 90, 0, failed=True), Part(2, "server", "t", 100, 200, 0)], 2),
    ],
)  # fmt: skip
def test_every_order_of_a_world_has_as_many_calls(world: list[Part], count: int) -> None:
    assert len(together(world)) == count
    check(world, permutations(world))
