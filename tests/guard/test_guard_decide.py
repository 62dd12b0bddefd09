"""The decision: against a naive reference under random restrictions and calls, and what the words mean."""

from __future__ import annotations

import fnmatch
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otel_ir.guard.decide import MODEL, Call, Hold, Refusal, State
from otel_ir.guard.restriction import CANARY, Restriction

KEYS = ("otel_ir.agent.id", "gen_ai.conversation.id", "trace_id", "gen_ai.agent.name", "service.name", "unheard.of")
STATIC = frozenset({("service.name", "v1")})
values = st.sampled_from(["v1", "v2", "v3"])
tools = st.sampled_from(["send_email", "get_order", "read_ticket", "database.query", "", "[x]", CANARY, MODEL])
patterns = st.sampled_from(["get_*", "read_*", "*", "database.?uery", "[gr]*", "[", "[!g]*", "send_email"])

restrictions = st.builds(
    Restriction,
    id=st.integers(0, 30).map(str),
    verb=st.sampled_from(["revoke_tools", "read_only_tools", "pause_agent"]),
    selectors=st.lists(st.dictionaries(st.sampled_from(KEYS), values, min_size=1, max_size=3), min_size=1, max_size=3).map(tuple),
    tools=st.none() | st.lists(tools, max_size=3).map(tuple),
    read_only=st.lists(patterns, max_size=3).map(tuple),
    since=st.integers(0, 5),
    expires=st.none() | st.integers(1, 20),
)
calls = st.builds(Call, tool=tools, identity=st.lists(st.tuples(st.sampled_from(KEYS[:4]), values), max_size=5).map(tuple))


def stops(one: Restriction, call: Call, now: int) -> bool:
    """The protocol's words, one after the other."""
    if one.expires is not None and now >= one.expires:
        return False
    known = {*call.identity, *STATIC}
    # A selector that says nothing but the service would mean everybody: a whole service is never a target.
    if not any(set(selector.items()) <= known and not set(selector.items()) <= STATIC for selector in one.selectors):
        return False
    if call.tool == MODEL:
        return one.verb == "pause_agent"
    if one.verb == "pause_agent" or call.tool == CANARY:
        return True
    if one.verb == "revoke_tools":
        return one.tools is None or call.tool in one.tools
    return not any(fnmatch.fnmatchcase(call.tool, pattern) for pattern in one.read_only)


def naive(given: list[Restriction], call: Call, now: int) -> str:
    verbs = {one.verb for one in given if stops(one, call, now)}
    return "refused" if verbs - {"pause_agent"} else "held" if verbs else "runs"


def decided(decision: object) -> str:
    return {Refusal: "refused", Hold: "held", type(None): "runs"}[type(decision)]


@given(st.lists(restrictions, max_size=8), st.lists(calls, max_size=8), st.integers(0, 25))
@example([Restriction("1", "revoke_tools", ({"service.name": "v1"},))], [Call("send_email", (("trace_id", "v1"),))], 0)
def test_decisions_are_those_of_the_naive_reference(given: list[Restriction], calls: list[Call], now: int) -> None:
    state = State(given, STATIC)
    for call in calls * 2:  # twice: tool names are remembered
        decision = state.decide(call, now)
        assert decided(decision) == naive(given, call, now)
        assert {one.id for one in state.matching(call, now)} == {one.id for one in given if stops(one, call, now)}
        if isinstance(decision, Refusal):
            assert any(stops(one, call, now) and one.id == decision.id for one in given)


def agent(name: str) -> dict[str, str]:
    return {"otel_ir.agent.id": f"desk/{name}"}


def call(tool: str, **identity: Any) -> Call:
    keys = {"agent": "otel_ir.agent.id", "conversation": "gen_ai.conversation.id", "trace": "trace_id"}
    return Call(tool, tuple((keys[key], value) for key, value in identity.items()))


def test_exactly_the_agent_and_its_conversation_are_meant() -> None:
    state = State([Restriction("1", "revoke_tools", (agent("a"), {"gen_ai.conversation.id": "c-1"}))])
    assert state.decide(call("t", agent="desk/a", conversation="c-9"), 0)
    assert state.decide(call("t", agent="desk/renamed", conversation="c-1"), 0)
    assert state.decide(call("t", agent="desk/b", conversation="c-2"), 0) is None
    assert state.decide(call("t"), 0) is None


def test_a_refusal_says_what_to_do_in_one_line() -> None:
    state = State([Restriction("1", "revoke_tools", (agent("a"),), incident="INC-7", reason="it mailed customer data")])
    refusal = state.decide(call("send_email", agent="desk/a"), 0)
    assert isinstance(refusal, Refusal)
    assert refusal.message == (
        "The tool send_email was not run: this agent's access to it is revoked: it mailed customer data (INC-7). Do not try again."
    )


def test_a_refusal_wins_over_a_pause() -> None:
    both = [Restriction("1", "pause_agent", (agent("a"),)), Restriction("2", "revoke_tools", (agent("a"),), ("send_email",), since=9)]
    state = State(both)
    assert isinstance(state.decide(call("send_email", agent="desk/a"), 0), Refusal)
    assert isinstance(state.decide(call("other", agent="desk/a"), 0), Hold)


@pytest.mark.parametrize("pattern", ["*" * 40 + "x", "a*" * 40 + "b", "[" * 100, "*" + "?" * 90 + "x"])
def test_a_hostile_pattern_costs_nothing(pattern: str) -> None:
    state = State([Restriction("1", "read_only_tools", (agent("a"),), read_only=(pattern,))])
    assert state.decide(call("a" * 256, agent="desk/a"), 0)


def test_remembered_tool_names_are_bounded() -> None:
    state = State([Restriction("1", "read_only_tools", (agent("a"),), read_only=("get_*",))])
    for number in range(5000):
        assert state.decide(call(f"get_{number}", agent="desk/a"), 0) is None
        assert state.decide(call(f"set_{number}", agent="desk/a"), 0)
    (rules,) = state._index.values()
    assert len(rules.others[0]._seen) <= 1024
