"""Spans that name each other as parents, one call that is told of thousands of times: each is an event, and takes the time of one."""

from __future__ import annotations

import json
import time
from itertools import permutations
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from normalize.otlp_maker import NOW, TRACE, logs, span, traces
from normalize.test_logs_join_spans import Request, records
from thorough import examples

from otel_ir.engine import Fold
from otel_ir.normalize import joins, same
from otel_ir.normalize.calls import Call, Trace
from otel_ir.offline import NO_RULES, final_form

_MCP, _ADK, _GENAI = "mcp-python-sdk", "gcp.vertex.agent", "opentelemetry.instrumentation.genai.langchain"
_CLI, _LOG = "com.anthropic.claude_code.tracing", "com.anthropic.claude_code.events"
_SERVED = {"mcp.method.name": "tools/call", "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "lookup"}
_ASKED = {"gen_ai.operation.name": "chat"}
_RUN = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "lookup"}
_MANY = 6000


def events(*sent: Request) -> list[dict[str, Any]]:
    return final_form(records([*sent])).rows(named=True)


@pytest.mark.parametrize(("scope", "said"), [(_MCP, _SERVED), (_ADK, _ASKED)])
@pytest.mark.parametrize("size", [1, 2, 3, 80])
def test_spans_that_are_their_own_ancestors_do_not_hide_each_other(scope: str, said: dict[str, str], size: int) -> None:
    ring = [span(said, id=f"{one + 1:016x}", parent=f"{(one + 1) % size + 1:016x}") for one in range(size)]
    for sent in ([("traces", traces(*ring, scope=scope))], [("traces", traces(one, scope=scope)) for one in ring]):
        fold = Fold(NO_RULES)
        came = [row for frame in fold.frames(records(sent)) for row in fold.fold(frame).events.rows(named=True)]
        assert any(row["otel_ir.duplicate_of"] is None for row in came)
        found = events(*sent)
        assert len(found) == len({row["otel_ir.event.id"] for row in found}) == size
        assert any(row["otel_ir.duplicate_of"] is None for row in found)


def test_a_second_call_inside_a_call_is_one_of_its_own() -> None:
    outer = ("traces", traces(span(_RUN, id="1" * 16), scope=_GENAI))
    inner = [("traces", traces(span(_SERVED, id=name * 16, parent="1" * 16), scope=_MCP)) for name in "23"]
    for sent in (*permutations([outer, *inner]), [("traces", b"".join(body for _, body in (outer, *inner)))]):
        assert sum(row["otel_ir.duplicate_of"] is None for row in events(*sent)) == 2


def _batches(items: list[Any], make: Any) -> list[Request]:
    return [make(items[start : start + 500]) for start in range(0, len(items), 500)]


def _approvals() -> list[Request]:
    call = {"span.type": "tool", "gen_ai.tool.name": "x", "tool_use_id": "c", "session.id": "s"}
    decided = {"span.type": "tool.blocked_on_user", "decision": "accept", "session.id": "s"}
    every = [span(decided, id=f"{one + 2**20:016x}", parent="1" * 16) for one in range(_MANY)]
    return [("traces", traces(span(call, id="1" * 16), scope=_CLI)), *_batches(every, lambda some: ("traces", traces(*some, scope=_CLI)))]


def _one_id() -> list[Request]:
    said = {"event.name": "tool_result", "tool_name": "Bash", "tool_use_id": "c", "session.id": "s"}
    every = [{"attributes": said, "time": NOW + one} for one in range(2 * _MANY)]
    return _batches(every, lambda some: ("logs", logs(*some, scope=_LOG)))


def _answers() -> list[Request]:
    times = [(NOW + 10 * one, NOW + 10 * one + 5) for one in range(2 * _MANY)]
    every = [span(_ASKED, id=f"{one + 2**20:016x}", parent="1" * 16, start=start, end=end) for one, (start, end) in enumerate(times)]
    return _batches(every, lambda some: ("traces", traces(*some, scope=_ADK)))


def _arguments() -> list[Request]:
    every = []
    for one in range(1000):
        part = {"type": "tool_call", "id": f"c{one}", "name": "lookup", "arguments": {"n": one, "text": "x" * 20_000}}
        said = _ASKED | {"gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [part]}])}
        every.append(span(said, id=f"{one + 2**20:016x}"))
    every += [span(_RUN | {"gen_ai.tool.call.arguments": f'{{"n": -{one}}}'}, id=f"{one + 2**30:016x}") for one in range(1000)]
    return _batches(every, lambda some: ("traces", traces(*some, scope=_GENAI)))


@pytest.mark.parametrize("make", [_approvals, _one_id, _answers, _arguments])
def test_what_is_told_of_one_call_thousands_of_times_takes_linear_time(make: Any) -> None:
    fold, sent = Fold(NO_RULES), make()
    started = time.process_time()
    for frame in fold.frames(records(sent)):
        fold.fold(frame)
    assert time.process_time() - started < 12


def test_one_span_that_thousands_of_log_records_tell_of_is_settled_in_linear_time() -> None:
    said = {"attributes": _ASKED, "event": "gen_ai.client.inference.operation.details", "trace": TRACE, "span": "1" * 16}
    every = [said | {"time": NOW + one} for one in range(_MANY)]
    sent = [("traces", traces(span(_ASKED, id="1" * 16))), *_batches(every, lambda some: ("logs", logs(*some)))]
    started = time.process_time()
    found = events(*sent)
    assert [row["otel_ir.duplicate_of"] for row in found].count(None) == 1
    assert len(found) == _MANY + 1
    assert time.process_time() - started < 5


def test_results_that_wait_in_many_traces_are_bounded_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joins, "MAX_HELD", 12_000)
    state = joins.Joins()
    for number in range(40):
        state.traces[str(number)] = Trace(number, early=[{"result": "x" * 1_000, "arguments": None}])
        state.held.touch(str(number))
    state.end_epoch(0)
    assert [name for name, trace in state.traces.items() if trace.early] == [str(number) for number in range(31, 40)]


def _long(start: int, end: int, *, each: int = 20_000) -> list[Request]:
    """Answers that ask for calls with long arguments, each in a trace of its own; results in other traces; spans that wait."""
    sent: list[Request] = []
    for one in range(start, end):
        text = {"n": one, "text": "x" * each}
        asked = [{"role": "assistant", "parts": [{"type": "tool_call", "id": f"c{one}", "name": "lookup", "arguments": text}]}]
        came = [{"role": "tool", "parts": [{"type": "tool_call_response", "id": f"c{one - 3}", "response": "y" * each}]}]
        said = _ASKED | {"gen_ai.output.messages": json.dumps(asked), "gen_ai.input.messages": json.dumps(came)}
        ran = _RUN | {"gen_ai.tool.call.arguments": json.dumps({"z": "z" * each, "n": one})}
        place = {"trace": f"{one + 1:032x}"}
        both = [span(said, id=f"{one + 2**20:016x}", **place), span(ran, id=f"{one + 2**30:016x}", **place)]
        sent.append(("traces", traces(*both, scope=_GENAI)))
    return sent


def test_what_calls_hold_is_bounded_within_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joins, "MAX_HELD", 400_000)
    fold, most = Fold(NO_RULES), 0
    for record in records(_long(0, 100)):
        fold.fold([record])
        most = max(most, len(fold.weaver.calls.joins.state()))
    assert most < 1_500_000  # results that wait for a call of another trace have a bound of their own
    kept = [call.row["arguments"] for trace in fold.weaver.calls.joins.traces.values() for call in trace.calls.values()]
    assert not kept[0]
    assert len(kept[-1]) > 20_000
    monkeypatch.setattr(joins, "MAX_HELD", 25_000)
    for record in records(_long(200, 260, each=100)):
        fold.fold([record])
    assert 0 < len(fold.weaver.calls.joins.traces) < 40


@settings(max_examples=examples(10), deadline=None)
@given(st.lists(st.integers(1, 7), min_size=20, max_size=20), st.integers(10_000, 300_000))
def test_what_is_forgotten_depends_on_no_frame_and_no_restart(sizes: list[int], most: int) -> None:
    sent = records(_long(0, 40))

    def folded(cuts: list[int] | None) -> tuple[list[Any], bytes]:
        fold, rows, at = Fold(NO_RULES, epoch=8), [], 0
        for size in cuts or [1] * 40:
            for frame in fold.frames(sent[at : at + size]):
                out = fold.fold(frame)
                rows += [(row["otel_ir.event.id"], row["gen_ai.tool.call.arguments"]) for row in out.events.rows(named=True)]
                if cuts and fold.at_epoch:
                    state, fold = fold.state(), Fold(NO_RULES, epoch=8)
                    fold.restore(state)
            at += size
        held = fold.weaver.calls.joins
        return rows, msgspec.msgpack.encode([(name, trace.size, trace.texts, [*trace.calls]) for name, trace in held.traces.items()])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joins, "MAX_HELD", most)
        assert folded([*sizes, 40]) == folded(None)


def test_the_end_of_an_epoch_looks_only_at_what_is_old() -> None:
    state = joins.Joins()
    for number in range(50_000):
        state.traces[f"{number}"] = Trace(number, calls={"k": Call({"call_id": "c"}, number, "{}")})
        state.asked[f"{number}"] = [(number, "x", "k", None), (number + 10, "x", "k", None)]
        state.decided[f"{number}"] = (number, 0, "e")
    started = time.process_time()
    for _ in range(100):
        state.end_epoch(0)
    assert time.process_time() - started < 1
    state.end_epoch(25_000)
    assert [*state.traces] == [*state.decided] == [f"{number}" for number in range(25_000, 50_000)]
    assert (len(state.asked), state.asked["24995"]) == (25_010, [(25_005, "x", "k", None)])


def test_what_parts_say_of_calls_is_bounded_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(same, "MAX_HELD", 10_000)
    state = same.Same()
    for number in range(40):
        state.things[number] = same.Thing(number, number, facts={"gen_ai.tool.call.result": ((0, 0, b""), "x" * 1_000)})
    state.end_epoch(0)
    assert [number for number, thing in state.things.items() if thing.facts] == [*range(30, 40)]
