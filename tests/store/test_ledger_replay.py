"""A restart replays from a checkpoint: the ledger then says what one uninterrupted run would have said."""

from __future__ import annotations

import tempfile
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from store.ledger_cases import NOW, Crash, CrashAt, make_action, make_alert

from otel_ir.model import Alert, AlertUpdate
from otel_ir.model_lifecycle import ActionState
from otel_ir.store.ledger import Ledger

Record = tuple[list[Alert], list[AlertUpdate]]


@st.composite
def journals(draw: st.DrawFn) -> list[Record]:
    """What the fold gives per record: alerts, and updates of alerts so far, counts growing."""
    journal: list[Record] = []
    counts: dict[str, int] = {}
    for ordinal in range(1, draw(st.integers(1, 6)) + 1):
        alerts = [make_alert(len(counts) + n, ordinal=ordinal) for n in range(draw(st.integers(0, 2)))]
        counts |= dict.fromkeys((alert.alert_id for alert in alerts), 1)
        updates = []
        for alert_id in draw(st.lists(st.sampled_from(sorted(counts)), max_size=3)) if counts else ():
            counts[alert_id] += 1
            changes: dict[str, Any] = draw(
                st.fixed_dictionaries({}, optional={"agent_id": st.sampled_from("xyz"), "user_id": st.sampled_from("pq")})
            )
            updates.append(AlertUpdate(alert_id=alert_id, ordinal=ordinal, count=counts[alert_id], **changes))
        journal.append((alerts, updates))
    return journal


def fold(ledger: Ledger, journal: list[Record], start: int) -> list[str]:
    """As the engine and the responder do; gives the actions that were let through to be dispatched."""
    dispatched = []
    for alerts, updates in journal[start:]:
        for alert in ledger.record_alerts(alerts, at=NOW):
            ledger.request_action(make_action(alert))
        ledger.apply_updates(updates)
        # What a crash left between alert and request is requested on the way: the latch makes it once.
        for alert in alerts:
            ledger.request_action(make_action(alert))
        for row in ledger.unfinished_actions():
            if row.state is ActionState.REQUESTED:
                ledger.transition(row.action_id, ActionState.DISPATCHED, NOW)
                dispatched.append(row.action_id)
            ledger.transition(row.action_id, ActionState.APPLIED, NOW)
    return dispatched


def told(ledger: Ledger) -> list[Any]:
    rows = sorted(ledger.alerts(limit=1000), key=lambda row: row.alert.alert_id)
    return [(row, ledger.addressees(row.alert.alert_id)) for row in rows] + [
        (row.verb, row.state, row.attempts, [step.to_state for step in ledger.history(row.action_id)])
        for row in sorted(ledger.actions(limit=1000), key=lambda row: row.action_id)
    ]


@settings(max_examples=20, deadline=None)
@given(journals(), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6)), max_size=3))
def test_crashes_and_replays_change_nothing(journal: list[Record], crashes: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = Ledger.open(f"sqlite:///{folder}/undisturbed.db")
        fold(undisturbed, journal, 0)
        disturbed, dispatched = Ledger.open(f"sqlite:///{folder}/disturbed.db"), []
        reached = 0
        for number, back in crashes:
            try:
                with CrashAt(disturbed, number):
                    dispatched += fold(disturbed, journal, reached)
            except Crash:
                disturbed.close()
                disturbed = Ledger.open(f"sqlite:///{folder}/disturbed.db")
            else:
                reached = max(0, len(journal) - back)
        dispatched += fold(disturbed, journal, reached)
        dispatched += fold(disturbed, journal, 0)
        assert told(disturbed) == told(undisturbed)
        assert len(set(dispatched)) == len(dispatched), "let through twice"
        undisturbed.close()
        disturbed.close()
