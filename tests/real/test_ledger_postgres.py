"""Everything a ledger must do, on a real PostgreSQL."""

from __future__ import annotations

import pytest
from store.ledger_cases import LedgerCases


class TestPostgres(LedgerCases):
    @pytest.fixture
    def url(self, postgres_url: str) -> str:
        return postgres_url
