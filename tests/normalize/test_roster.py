"""The roster of agents equals a naive reading of the events, and templates filled in differently have one fingerprint."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ir.model import EVENT_SCHEMA, PATCH_SCHEMA
from otel_ir.normalize.roster import MAX_NAMES, MAX_PROMPTS, ROSTER_SCHEMA, Roster, fingerprints, prompts, roster_of

_PROMPTS = (None, "You help.", "You  HELP.", "You pay.", "You pay 7 times.", "You pay 12 times.")


USER = "aabbccdd-eeff-abcd-abcd-eeffaabbccdd"


def _events(seed: int, number: int) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    found = []
    for at in range(number):
        name = chance.choice(["x", "y", None])
        service = chance.choice(["a", "b", None])
        known = name is not None and chance.random() < 0.7
        found.append(
            {
                "otel_ir.event.id": f"t/{at}",
                "event.type": chance.choice(["tool_call", "model_output", "agent_invocation"]),
                "otel_ir.tenant": chance.choice(["", "acme", None]),
                "service.name": service,
                "otel_ir.agent.id": f"{service or ''}/{name if known else '~t/1'}",
                "otel_ir.agent.id_source": chance.choice(["own", "sibling", "ancestor"])
                if known
                else chance.choice(["none", "none", None]),
                "gen_ai.agent.name": name if known else None,
                "gen_ai.tool.name": chance.choice(["t1", "t2", "t3", None]),
                "gen_ai.request.model": chance.choice(["m1", None]),
                "gen_ai.response.model": chance.choice(["m2", None]),
                "otel_ir.dialect": chance.choice(["otel_genai", "http", "messages", None]),
                "gen_ai.system_instructions": chance.choice(_PROMPTS),
                "event_time": chance.randint(1, 100),
                "otel_ir.duplicate_of": chance.choice([None, None, None, "t/0"]),
            }
        )
    return found


def _naive(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for one in events:
        if one["otel_ir.agent.id_source"] in (None, "none") or one["otel_ir.duplicate_of"]:
            continue
        key = (one["otel_ir.tenant"] or "", one["otel_ir.agent.id"])
        new = {"name": None, "fingerprint": None, "tools": set(), "models": set(), "dialects": set(), "first_seen": 999, "last_seen": 0}
        row = rows.setdefault(key, {"tenant": key[0], "agent_id": key[1]} | new)
        row["service"] = one["service.name"] or ""
        row["name"] = one["gen_ai.agent.name"] or row["name"]
        prompt = one["gen_ai.system_instructions"]
        if prompt is not None:
            row["fingerprint"] = "pay" if "pay." in prompt else "pay #" if "pay" in prompt else "help"
        if one["event.type"] == "tool_call" and one["gen_ai.tool.name"]:
            row["tools"].add(one["gen_ai.tool.name"])
        row["dialects"] |= {one["otel_ir.dialect"]} - {None, "messages"}
        row["models"] |= {one["gen_ai.request.model"] or one["gen_ai.response.model"]} - {None}
        row["first_seen"] = min(row["first_seen"], one["event_time"])
        row["last_seen"] = max(row["last_seen"], one["event_time"])
    return [
        row | {"tools": sorted(row["tools"]), "models": sorted(row["models"]), "dialects": sorted(row["dialects"])}
        for _, row in sorted(rows.items())
    ]


def _shown(roster: pl.DataFrame) -> list[dict[str, Any]]:
    known = dict(zip(fingerprints(pl.Series(_PROMPTS[1:])), ["help", "help", "pay", "pay #", "pay #"], strict=True))
    return [row | {"fingerprint": row["fingerprint"] and known[row["fingerprint"]]} for row in roster.to_dicts()]


def _same(shown: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> bool:
    return [dict(sorted(row.items())) for row in shown] == [dict(sorted(row.items())) for row in wanted]


@given(st.integers(0, 10**9), st.integers(0, 30))
def test_the_roster_equals_a_naive_reading(seed: int, number: int) -> None:
    events = _events(seed, number)
    roster = roster_of(pl.DataFrame(events, schema=EVENT_SCHEMA))
    assert roster.schema == ROSTER_SCHEMA
    assert _same(_shown(roster), _naive(events))


@given(st.integers(0, 10**9), st.integers(1, 30))
def test_agents_that_become_known_later_are_told_with_all_they_did(seed: int, number: int) -> None:
    events, roster, chance = _events(seed, number), Roster(), random.Random(seed)
    tools: dict[tuple[str, str], set[str]] = {}
    final: dict[str, dict[str, Any]] = {one["otel_ir.event.id"]: one for one in events}
    at = 0
    while at < number:
        cut = events[at : at + chance.randint(1, 6)]
        at += len(cut)
        patches = []
        for one in [one for one in events[:at] if final[one["otel_ir.event.id"]]["otel_ir.agent.id_source"] in (None, "none")]:
            if chance.random() < 0.3:
                named = {
                    "otel_ir.agent.id": f"{one['service.name'] or ''}/z",
                    "otel_ir.agent.id_source": "ancestor",
                    "gen_ai.agent.name": "z",
                }
                final[one["otel_ir.event.id"]] = one | named
                patches.append({"otel_ir.event.id": one["otel_ir.event.id"], "otel_ir.journal.ordinal": at} | named)
        told = roster.take(pl.DataFrame(cut, schema=EVENT_SCHEMA), pl.DataFrame(patches, schema=PATCH_SCHEMA))
        for row in told.to_dicts():
            tools.setdefault((row["tenant"], row["agent_id"]), set()).update(row["tools"])
    assert tools == {(row["tenant"], row["agent_id"]): set(row["tools"]) for row in _naive(list(final.values()))}


@pytest.mark.parametrize(
    "other",
    ["you are  a BOT. Today is Thu, 3 May 2027 08:01:02.5Z. Session 9. User 11111111-2222-3333-4444-555555555555. Order #7",
     "You are a bot.\\nToday is 2026-01-02T03:04:05+01:00. Session a1b2-c3. User aabbccdd-eeff-abcd-abcd-eeffaabbccdd. Order #7,000"],
)  # fmt: skip
def test_a_template_filled_in_differently_has_one_fingerprint(other: str) -> None:
    one = f"You are a bot.\n Today is Thursday, November 26th, 2026 20:48 UTC. Session 7f. User {USER}. Order #12.5"
    assert fingerprints(pl.Series([one, other])).n_unique() == 1
    assert fingerprints(pl.Series([one, one.replace("bot", "clerk")])).n_unique() == 2


def test_the_roster_is_bounded() -> None:
    tools = [
        {"event.type": "tool_call", "otel_ir.agent.id": "a/x", "otel_ir.agent.id_source": "own", "gen_ai.tool.name": f"{at:04}"}
        for at in range(300)
    ]
    [row] = roster_of(pl.DataFrame(tools, schema=EVENT_SCHEMA)).to_dicts()
    assert row["tools"] == [f"{at:04}" for at in range(MAX_NAMES)]
    many = fingerprints(pl.Series(["x" * number for number in range(1, MAX_PROMPTS + 10)]))
    assert many.null_count() == 9
    unnamed = [{"otel_ir.event.id": f"t/{at}", "event.type": "tool_call", "gen_ai.tool.name": f"{at}"} for at in range(9)]
    roster = Roster(max_waiting=4)
    assert roster.take(pl.DataFrame(unnamed, schema=EVENT_SCHEMA), PATCH_SCHEMA.to_frame()).is_empty()
    named = {"otel_ir.agent.id": "a/x", "otel_ir.agent.id_source": "ancestor"}
    patches = [{"otel_ir.event.id": f"t/{at}"} | named for at in range(9)]
    assert roster.take(EVENT_SCHEMA.to_frame(), pl.DataFrame(patches, schema=PATCH_SCHEMA))["tools"].to_list() == [["5", "6", "7", "8"]]
    assert roster.take(EVENT_SCHEMA.to_frame(), pl.DataFrame(patches, schema=PATCH_SCHEMA)).is_empty()


@pytest.mark.parametrize(("messages", "own", "prompt"), [
    ('[{"role":"system","parts":[{"type":"text","content":"You help"}]},{"role":"user","parts":[]}]', None, "parts"),
    ('[{"role": "developer", "content": "Say \\"},{\\\\\\"role\\" twice"}, {"role": "user"}]', None, "quoted"),
    ('[{"role":"system","content":"alone"}]', None, '"alone"'),
    ('[{"role":"system","content":"cut in the mid', None, '"cut in the mid'),
    ('[{"role":"user","content":"hi"},{"role":"system","content":"late"}]', None, None),
    ('[{"role":"system","content":"other"}]', "its own", "its own"),
    (None, "its own", "its own"),
    (None, None, None),
    ("no json", None, None),
])  # fmt: skip
def test_the_prompt_that_is_the_first_message(messages: str | None, own: str | None, prompt: str | None) -> None:
    rows = [{"gen_ai.system_instructions": own, "gen_ai.input.messages": messages}]
    rows.append({"gen_ai.system_instructions": None, "gen_ai.input.messages": '[{"role":"user"}]'})
    expected = {"parts": '[{"type":"text","content":"You help"}]', "quoted": '"Say \\"},{\\\\\\"role\\" twice"'}
    assert prompts(pl.DataFrame(rows, schema=EVENT_SCHEMA)).to_list() == [expected.get(prompt or "", prompt), None]


def test_what_nobody_names_is_an_agent_of_its_service_after_a_while() -> None:
    def event(number: int, service: str | None, name: str | None = None) -> dict[str, Any]:
        return {
            "otel_ir.event.id": f"t/{number}", "event.type": "tool_call", "service.name": service, "gen_ai.tool.name": f"tool {number}",
            "otel_ir.agent.id": f"{service}/{name or '~t'}", "otel_ir.agent.id_source": "own" if name else "none", "event_time": number,
        }  # fmt: skip

    def frame(*rows: dict[str, Any]) -> pl.DataFrame:
        return pl.DataFrame(list(rows), schema=EVENT_SCHEMA)

    nothing = PATCH_SCHEMA.to_frame()
    roster = Roster()
    assert roster.take(frame(event(1, "a"), event(2, None), event(3, "a", "x")), nothing, 10.0)["agent_id"].to_list() == ["a/x"]
    roster.take(frame(event(4, "a")), nothing, 20.0)
    assert roster.unnamed(10.0).height == 0
    [row] = roster.unnamed(15.0).to_dicts()
    assert (row["agent_id"], row["service"], row["name"], row["tools"], row["first_seen"]) == ("a/-", "a", None, ["tool 1"], 1)
    assert roster.unnamed(15.0).height == 0
    assert roster.unnamed(99.0)["tools"].to_list() == [["tool 4"]]
