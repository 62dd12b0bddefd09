"""The ledger: alerts, incidents, actions, agents, each exactly once, with everything that happened to them.

Every method is one transaction: it happened wholly or not at all, also over a kill. All of them are idempotent on
``alert_id`` and ``action_id``, because a restart replays from a checkpoint and brings the same alerts again.
"""

from __future__ import annotations

from otel_ir.store.action_book import ActionBook
from otel_ir.store.alert_book import AlertBook
from otel_ir.store.database import Database
from otel_ir.store.fleet_book import FleetBook
from otel_ir.store.incident_book import IncidentBook
from otel_ir.store.outbox import Outbox


class Ledger(AlertBook, IncidentBook, ActionBook, FleetBook, Outbox):
    """Thread-safe; several handles and processes may share one database. Methods block: call them from a worker thread.

    Any of them raises ``StorageError`` when the database cannot be read or written; nothing was changed then.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, url: str) -> Ledger:
        """``sqlite:///DIR/ledger.db`` or ``postgresql://HOST/DATABASE``; creates or migrates the tables.

        Raises ``ConfigError`` for a URL that cannot be used, ``StorageError`` for a ledger of a newer version.
        """
        return cls(Database(url))

    def close(self) -> None:
        """Close the connections; what was committed is safe without it."""
        self._database.close()
