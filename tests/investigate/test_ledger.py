"""From the real ledger to the facts of an incident."""

from __future__ import annotations

from pathlib import Path

from otel_ir.investigate import read_incident
from otel_ir.investigate.ledger import MAX_STEPS
from otel_ir.model_lifecycle import ActionRequest, LetGo, LogEntry
from otel_ir.store import Ledger
from tests.investigate.story import AGENT, NOON, SECOND, alert


def _ledger(folder: Path) -> tuple[Ledger, str]:
    book = Ledger.open(f"sqlite:///{folder}/ledger.db")
    found = [alert([4], 1.5, "data_exfiltration").alert, alert([3, 4], 1.4).alert]
    book.record_alerts(found, NOON + 2 * SECOND)
    return book, book.incidents()[0].incident_id


def test_everything_of_an_incident_is_read(tmp_path: Path) -> None:
    book, incident = _ledger(tmp_path)
    request = ActionRequest(incident_id=incident, verb="revoke_tools", adapter="guard", mode="enforce", requested_at=NOON + 2 * SECOND)
    book.request_action(request)
    for offset, state in enumerate(("dispatched", "applied", "verified"), 3):
        book.transition(request.action_id, state, NOON + offset * SECOND, f"{state} it")
    book.let_go(request.action_id, LetGo("released", "ada", "cleaned", NOON + 9 * SECOND))
    book.transition(request.action_id, "released", NOON + 10 * SECOND)
    book.note(incident, LogEntry(NOON + 11 * SECOND, "note", "ada", "looked at it"))
    facts = read_incident(book, incident)
    assert facts
    assert (facts.agent_id, facts.severity, facts.state) == (AGENT, "critical", "recovering")
    assert facts.contained_at == NOON + 5 * SECOND
    assert [one.alert.signal for one in facts.alerts] == ["suspicious_tool_sequence", "data_exfiltration"]
    assert facts.alerts[0].recorded_at == NOON + 2 * SECOND
    (action,) = facts.actions
    assert [step.state for step in action.steps] == ["requested", "dispatched", "applied", "verified", "releasing", "released"]
    assert [step.who for step in action.steps] == ["", "", "", "", "ada", "ada"]
    assert (action.verified_at, action.ended_at, action.state) == (NOON + 5 * SECOND, NOON + 10 * SECOND, "released")
    assert "looked at it" in [note.text for note in facts.notes]
    assert not facts.cut
    book.close()


def test_an_incident_that_is_not_there_is_none(tmp_path: Path) -> None:
    book, _ = _ledger(tmp_path)
    assert read_incident(book, "INC-none") is None
    book.close()


def test_a_history_without_end_is_bounded(tmp_path: Path) -> None:
    book, incident = _ledger(tmp_path)
    request = ActionRequest(incident_id=incident, verb="pause_agent", adapter="guard", mode="enforce", requested_at=NOON)
    book.request_action(request)
    for number in range(MAX_STEPS + 50):
        book.transition(request.action_id, "dispatched", NOON + number, f"attempt {number}")
    facts = read_incident(book, incident)
    assert facts
    steps = facts.actions[0].steps
    assert len(steps) == MAX_STEPS
    assert (steps[0].state, steps[-1].detail) == ("requested", f"attempt {MAX_STEPS + 49}")
    book.close()
