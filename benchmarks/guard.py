"""``python -m benchmarks.guard``: what the guard costs each tool call, with nothing forbidden, one restriction, and a hundred.

Each case asserts what it decides. ``bare`` is the same call without a guard; ``decide`` the pure decision; ``hook`` what a framework's hook
does around it (who calls, in which conversation and trace); ``span`` a tool span that the generic guard looks at, beside the same span
without one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

from opentelemetry.sdk.trace import TracerProvider

from otel_ir.guard import Call, Guard, Restriction
from otel_ir.guard.settings import Settings
from otel_ir.guard.spans import Caller

CALLS = 20_000
BUDGET = 50.0
"""Microseconds that a decision may take (p50), also with a hundred restrictions in force."""
SERVICE = "desk"
IDENTITY = (
    ("otel_ir.agent.id", f"{SERVICE}/benign"), ("gen_ai.agent.name", "benign"),
    ("gen_ai.conversation.id", "conv-1"), ("trace_id", "0" * 31 + "1"),
)  # fmt: skip


class Result(NamedTuple):
    """One case: microseconds of CPU a call (on a busy machine wall time tells of its other users), that of reading the clock included."""

    case: str
    p50: float
    p99: float


def measured(case: str, call: Callable[[], object], expected: object) -> Result:
    """The case, timed call by call; ``call`` must give ``expected``."""
    took = []
    for _ in range(CALLS // 10):
        assert call() == expected, case
    for _ in range(CALLS):
        began = time.thread_time_ns()
        given = call()
        took.append((time.thread_time_ns() - began) / 1000)
        assert given == expected, case
    return Result(case, statistics.median(took), statistics.quantiles(took, n=100)[98])


def restrictions(count: int) -> list[Restriction]:
    """Half of them for other agents, with names or patterns; half for the agent that calls, about other tools than it calls."""
    given = []
    for number in range(count):
        selectors = ({"otel_ir.agent.id": f"{SERVICE}/agent-{number}"}, {"gen_ai.conversation.id": f"conv-x{number}"})
        if number % 3 == 2:
            given.append(Restriction(f"r-{number}", "read_only_tools", selectors, read_only=("get_*", "read_*", "list_*")))
        else:
            given.append(Restriction(f"r-{number}", "revoke_tools", selectors, tools=("send_email", "http_request")))
    if given:
        mine = ({"otel_ir.agent.id": f"{SERVICE}/benign"},)
        given = [
            *given[: count // 2],
            *(Restriction(f"m-{n}", "revoke_tools", mine, tools=(f"tool_{n}",)) for n in range(count - count // 2)),
        ]
    return given


def look_up(customer: str) -> str:
    """The tool."""
    return customer


def cases(count: int) -> list[Result]:
    """All figures with ``count`` restrictions in force."""
    guard = Guard(Settings(SERVICE, "instance"))
    provider = TracerProvider(shutdown_on_exit=False)
    tracer = provider.get_tracer("benchmark")
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "look_up", "gen_ai.agent.name": "benign"}
    plain = measured("span without a guard", lambda: tracer.start_span("execute_tool look_up", attributes=attributes).end(), None)
    guard.otel(provider)
    for one in restrictions(count):
        guard.restrict(one)
    assert len(guard.restrictions) == count
    call, caller = Call("look_up", IDENTITY), Caller(agent_name="benign", conversations=("conv-1",))
    return [
        measured("decide", lambda: guard.decide(call), None),
        measured("hook", lambda: guard.stop("look_up", caller), None),
        plain,
        measured("span with the guard", lambda: tracer.start_span("execute_tool look_up", attributes=attributes).end(), None),
    ]


def main() -> None:
    """Prints the table; fails when a decision is over its budget."""
    print(f"{'restrictions':>12}  {'case':22} {'p50 µs':>8} {'p99 µs':>8}")
    bare = measured("bare call", lambda: look_up("alice"), "alice")
    print(f"{'':>12}  {bare.case:22} {bare.p50:8.2f} {bare.p99:8.2f}")
    for count in (0, 1, 100):
        results = cases(count)
        for one in results:
            print(f"{count:>12}  {one.case:22} {one.p50:8.2f} {one.p99:8.2f}")
        over = [one.case for one in results[:2] if one.p50 > BUDGET]
        assert not over, f"over {BUDGET:g} µs with {count} restrictions: {over}"


if __name__ == "__main__":
    main()
