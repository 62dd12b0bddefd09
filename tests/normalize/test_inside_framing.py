"""What a framework, a client and a server say of one call, one below the other: the same events and patches however records are framed."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from normalize.otlp_maker import NOW, span, traces
from normalize.test_logs_join_spans import Request, records
from thorough import examples

from otel_ir.engine import Fold
from otel_ir.model import PATCH_SCHEMA, Record
from otel_ir.offline import NO_RULES

_SCOPES = {
    "framework": "opentelemetry.instrumentation.genai.langchain",
    "client": "opentelemetry.instrumentation.mcp",
    "server": "mcp-python-sdk",
}
Told = tuple[str, str | None, str | None, bool]
"""Kind, its own error type, its result, whether it gives arguments."""
_KINDS = st.tuples(st.sampled_from([*_SCOPES]), st.sampled_from([None, "ToolException"]), st.sampled_from([None, "found"]), st.booleans())


def described(number: int, told: Told) -> Request:
    """The span with that number, below the one before."""
    kind, failure, result, given = told
    said: dict[str, Any] = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "lookup"}
    if kind == "client":
        said = {"traceloop.span.kind": "tool", "traceloop.entity.name": "lookup"}
    if kind == "server":
        said |= {"mcp.method.name": "tools/call"}
    said |= {"gen_ai.tool.call.arguments": '{"id": 7}'} if given else {}
    said |= {"gen_ai.tool.call.result": f"{result} by {number}"} if result else {}
    said |= {"error.type": f"{failure}{number}"} if failure else {}
    status: dict[str, Any] = {"status": 2, "message": f"{kind} said"} if failure else {}
    place = {"id": f"{number + 1:016x}", "parent": f"{number:016x}" if number else ""}
    return "traces", traces(span(said, start=NOW + number, end=NOW + 100 - number, **place, **status), scope=_SCOPES[kind])


def output(frames: list[list[Record]]) -> list[str]:
    fold, found = Fold(NO_RULES), []
    for frame in frames:
        folded = fold.fold(frame)
        found += [repr(("event", row)) for row in folded.events.select(*PATCH_SCHEMA.names(), "otel_ir.duplicate_of").rows()]
        found += [repr(("patch", row)) for row in folded.patches.select(PATCH_SCHEMA.names()).rows()]
    return sorted(found)


_FAILED: list[Told] = [("framework", "ToolException", None, True), ("server", "ValueError", None, False)]


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(_KINDS, min_size=2, max_size=4), st.randoms(use_true_random=False), st.sets(st.integers(1, 3)))
@example(_FAILED, None, set())
def test_calls_inside_calls_are_the_same_however_their_records_are_framed(told: list[Told], chance: Any, cuts: set[int]) -> None:
    requests = [described(number, one) for number, one in enumerate(told)]
    if chance is not None:
        chance.shuffle(requests)
    sent = records(requests)
    framed = [sent[first:last] for first, last in pairwise([0, *sorted(cut for cut in cuts if cut < len(sent)), len(sent)])]
    assert output([[one] for one in sent]) == output(framed) == output([sent])
