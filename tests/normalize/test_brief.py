"""Long arguments are compared in brief, as they would be as a whole."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from normalize.otlp_maker import span, traces
from normalize.test_logs_join_spans import records

from otel_ir.engine import Fold
from otel_ir.normalize import calls
from otel_ir.normalize.brief import MAX_MEMBERS, MAX_VALUE, MAX_WHOLE, brief, short
from otel_ir.normalize.calls import agree, canonical, is_only, only
from otel_ir.offline import NO_RULES

_values = st.builds(
    lambda start, unit, times: start + unit * times,
    st.sampled_from(["", "a", "[REDACTED]", '{"', "é"]),
    st.sampled_from(["x", "yz", '"', "ü\n"]),
    st.sampled_from([0, 3, 200, 400, 5000]),
)
_arguments = st.dictionaries(st.sampled_from(["path", "body", "n" * 300]), _values | st.just([1] * 2500) | st.none(), max_size=3)


@settings(max_examples=200, deadline=None)
@given(_arguments, _arguments, st.booleans())
def test_arguments_in_brief_agree_as_they_do_as_a_whole(one: dict[str, Any], other: dict[str, Any], alike: bool) -> None:
    if alike:
        other |= {name: value for name, value in one.items() if name in other}
    whole = [json.dumps(said, separators=(",", ":"), sort_keys=True, ensure_ascii=False) for said in (one, other)]
    ours, theirs = (canonical(text) for text in whole)
    assert agree(ours, theirs) == agree(*whole)
    assert canonical(ours) == ours
    assert agree(ours, whole[1]) == agree(*whole)
    assert (ours == theirs) == (whole[0] == whole[1])


@given(_values, _values)
def test_a_value_without_its_name_is_found_in_brief(one: str, other: str) -> None:
    named = canonical(json.dumps({"q": one}, ensure_ascii=False))
    assert is_only(one, named)
    assert is_only(other, named) == (one == other)
    if not one.startswith("{"):
        call = calls.Call({"tool": "t"}, 1, named, only=only(named))
        assert calls.fits(call, "t", canonical(one))
        assert agree(canonical(one), named)


def test_an_object_without_its_name_is_found_in_brief() -> None:
    inner = {"text": "x" * 9000, "n": 1}
    named = canonical(json.dumps({"q": inner}))
    assert calls.fits(calls.Call({"tool": "t"}, 1, named, only=only(named)), "t", canonical(json.dumps(inner)))


@given(st.text(st.characters(codec="utf-8"), max_size=50).map(lambda text: text * 200))
def test_what_is_short_stays(text: str) -> None:
    assert short(short(text)) == short(text)
    assert len(short(text)) <= MAX_VALUE


@pytest.mark.parametrize(
    "said",
    [
        "x" * 10**6, json.dumps({str(n): n for n in range(10**5)}), json.dumps({"x" * 10**6: "y" * 10**6}), json.dumps([1] * 10**5),
        json.dumps({f"{n}" * 9000: "y" * 9000 for n in range(90)}),
    ],
)  # fmt: skip
def test_what_is_brief_is_bounded(said: str) -> None:
    assert canonical(canonical(said)) == canonical(said)
    assert len(canonical(said) or "") < (MAX_MEMBERS + 1) * 2 * (MAX_VALUE + 8)


def test_ordinary_arguments_stay_as_they_are() -> None:
    text = json.dumps({"text": "x" * (MAX_WHOLE - 20)}, separators=(",", ":"))
    assert brief(text) == text


def test_objects_of_many_members_are_told_apart() -> None:
    one, other = (canonical(json.dumps({f"{n:04}": n for n in range(1000)} | {"z": z})) for z in (1, 2))
    assert one != other
    assert agree(one, other)


def test_a_small_request_does_not_parse_large_arguments_again() -> None:
    def asks(calls: list[dict[str, Any]], number: int) -> Any:
        parts = [{"type": "tool_call", "id": "c", "name": "t", "arguments": one} for one in calls]
        said = {"gen_ai.operation.name": "chat", "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": parts}])}
        return "traces", traces(span(said, id=f"{number + 1:016x}"))

    sent = records([*(asks([{"n": n, "l": [*range(60_000)]}], n) for n in range(16)), asks([{"n": 1000 + n} for n in range(250)], 99)])
    fold = Fold(NO_RULES)
    for one in sent[:16]:
        fold.fold([one])
    started = time.process_time()
    fold.fold(sent[16:])
    assert time.process_time() - started < 1
