"""Everything a ledger must do, on a real PostgreSQL."""

from __future__ import annotations

import pytest
from store.ledger_cases import NOW, LedgerCases, make_alert

from otel_ir.model_lifecycle import LogEntry
from otel_ir.store.incident_book import log
from otel_ir.store.ledger import Ledger


class TestPostgres(LedgerCases):
    @pytest.fixture
    def url(self, postgres_url: str) -> str:
        return postgres_url

    def test_what_is_committed_late_is_not_passed_by(self, ledger: Ledger) -> None:
        """Rows get their number when they are written, and are seen when they are committed: not always in that order."""
        ledger.record_alerts([make_alert()], at=NOW)
        incident = str(ledger.alerts()[0].incident_id)
        with ledger._database.write() as connection:
            log(connection, incident, LogEntry(NOW, "contained", "", "late"))
            ledger.note(incident, LogEntry(NOW, "recovering", "", "early"))
            seen = ledger.unsent_incidents(10)
            assert [one.detail for one in seen[1:]] == ["early"]
            ledger.mark_incidents_sent([one.number for one in seen])
        assert [one.detail for one in ledger.unsent_incidents(10)] == ["late"]
