"""Any grouping of whole records, and a kill between any two, gives byte-equal alerts (DESIGN, what deterministic means)."""

from __future__ import annotations

import random
from dataclasses import asdict, replace
from typing import Any

import msgspec
import pytest
from engine.otlp_stream import START, records
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ir.engine import RULESET_ACTIVATED, Fold
from otel_ir.model import Alert, AlertUpdate, Record
from otel_ir.rules_path import shipped_rules
from otel_ir.sigma import load_rules
from otel_ir.sigma.ruleset import RuleSet

EPOCH = 16


@pytest.fixture(scope="module")
def ruleset() -> RuleSet:
    found, errors = load_rules([shipped_rules()])
    assert not errors
    return found


def _contain(action: str, verb: str, since: int, state: str = "verified", **more: Any) -> bytes:
    said = {"type": "containment", "action_id": action, "state": state, "verb": verb, "since": since, "tenant": "", "service": "shop"}
    return msgspec.json.encode(said | {"incident_id": "INC-1", "tools": None, "read_only": []} | more)


def _contained(stream: list[Record], chance: random.Random) -> list[Record]:
    """The stream with control records among its requests: two agents are contained, one of them by trace as well, one is let go of."""
    agent = {"otel_ir.agent.id": "shop/agent-1"}
    controls = [
        _contain("act-1", "revoke_tools", START, selectors=[agent], tools=["send_email", "lookup"]),
        _contain("act-2", "pause_agent", START, selectors=[{"gen_ai.conversation.id": "agent-2"}]),
        _contain("act-1", "revoke_tools", START, selectors=[agent, {"otel_ir.agent.id": "shop/agent-3"}]),
        b"not a record",
        _contain("act-2", "pause_agent", START, "released"),
    ]
    places = [chance.randrange(start, start + 10) for start in (0, 10, 25, 40, 60)]
    mixed = list(stream)
    for at, body in reversed(list(zip(places, controls, strict=True))):
        mixed.insert(at, Record(0, "control", stream[at].received, body))
    return [replace(record, ordinal=ordinal) for ordinal, record in enumerate(mixed, start=1)]


def _bytes(alerts: list[Alert], updates: dict[tuple, AlertUpdate]) -> bytes:
    return msgspec.json.encode([[asdict(alert) for alert in alerts], [asdict(update) for update in updates.values()]])


def _run(ruleset: RuleSet, stream: list[Record], cuts: list[int], kills: set[int]) -> bytes:
    """Folds the stream in frames that end at ``cuts``. At each ordinal in ``kills`` the process dies: the fold starts again from its last
    checkpoint, as ``serve`` does, and the ledger drops what it has (alert ids are unique there, counts and identities only grow).
    """
    fold, alerts, updates = Fold(ruleset, epoch=EPOCH), {}, {}
    checkpoint, at = None, 0
    kills = set(kills)
    while at < len(stream):
        end = next(cut for cut in cuts if cut > at)
        for frame in fold.frames(stream[at:end]):
            output = fold.fold(frame)
            for alert in output.alerts:
                alerts.setdefault(alert.alert_id, alert)
            for update in output.updates:
                updates[update.alert_id, update.count is None, update.ordinal] = update
            at = frame[-1].ordinal
            if fold.at_epoch:
                checkpoint = (at, fold.state())
            if at in kills:
                kills.discard(at)
                fold = Fold(ruleset, epoch=EPOCH)
                at = 0
                if checkpoint:
                    at = checkpoint[0]
                    fold.restore(checkpoint[1])
                break
    counts = {key: update for key, update in updates.items() if not key[1]}
    last = {key[0]: update for key, update in sorted(counts.items(), key=lambda item: item[1].ordinal)}
    told = {key: update for key, update in sorted(updates.items()) if key[1]}
    ordered = {alert_id: last[alert_id] for alert_id in sorted(last)}
    return _bytes(sorted(alerts.values(), key=lambda alert: (alert.ordinal, alert.rule_id, alert.alert_id)), ordered | told)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**9))
def test_grouping_and_kills_change_nothing(ruleset: RuleSet, seed: int) -> None:
    chance = random.Random(seed)
    stream = _contained(records(seed, 70), chance)
    last = len(stream)
    want = _run(ruleset, stream, list(range(1, last + 1)), set())
    assert b"suspicious_tool_sequence" in want
    assert b"containment_violated" in want
    some = sorted({*chance.sample(range(1, last), 12), last})
    assert _run(ruleset, stream, some, set()) == want
    assert _run(ruleset, stream, [last], set()) == want
    assert _run(ruleset, stream, some, set(chance.sample(range(1, last), 30))) == want


def test_a_rule_set_holds_from_its_control_record_on_also_in_a_replay(ruleset: RuleSet) -> None:
    stream = records(7, 40)
    nothing = RuleSet(rules=(), correlations=(), digest="nothing", fields=frozenset())
    body = msgspec.json.encode({"type": RULESET_ACTIVATED, "digest": "nothing"})
    switch = Record(ordinal=41, kind="control", received=stream[-1].received, body=body)
    after = [Record(record.ordinal + 41, record.kind, record.received + 90 * 10**9, record.body) for record in records(8, 40)]
    found = {"nothing": nothing, ruleset.digest: ruleset}.__getitem__
    for cuts in ([81], list(range(1, 82))):
        fold, alerts, at = Fold(ruleset, found, epoch=EPOCH), [], 0
        for cut in cuts:
            for frame in fold.frames([*stream, switch, *after][at:cut]):
                alerts += fold.fold(frame).alerts
            at = cut
        assert alerts
        assert {alert.ordinal for alert in alerts} <= set(range(1, 41))
        assert fold.ruleset is nothing
