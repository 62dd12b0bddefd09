"""What is to be told outside and was not yet: steps of actions, changes of incidents. Alerts: ``AlertBook.unexported``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, select, update

from otel_ir.model_lifecycle import ActionChange, ActionState, IncidentChange, IncidentState, StepTaken
from otel_ir.store.database import Database
from otel_ir.store.query import MAX_ROWS, chunks
from otel_ir.store.rows import to_action_row, to_alert_row
from otel_ir.store.schema import action_history, actions, alerts, incident_log, incidents

MAX_STEPS = 32
"""Newest steps that are told with each."""


class Outbox:
    """The part of the ledger about what is still to be exported. Each row is given until it is marked, whatever comes in between."""

    _database: Database

    def unsent_actions(self, limit: int) -> list[ActionChange]:
        """The oldest steps nobody was sent yet, at most ``limit``."""
        with self._database.read() as connection:
            rows = _unsent(connection, action_history, limit)
            found = _by_id(connection, actions, "action_id", (row["action_id"] for row in rows))
            about = _by_id(connection, alerts, "alert_id", (action["alert_id"] for action in found.values()))
            return [
                ActionChange(
                    number=row["id"],
                    request=to_action_row(action := found[row["action_id"]]).request,
                    steps=_steps(connection, row),
                    alert=to_alert_row(alert).alert if (alert := about.get(action["alert_id"] or "")) else None,
                )
                for row in rows
            ]

    def unsent_incidents(self, limit: int) -> list[IncidentChange]:
        """The oldest changes of incidents nobody was sent yet, at most ``limit``."""
        names = ("incident_id", "tenant", "service", "agent_id", "agent_id_source", "trace_id", "severity", "title", "drill")
        with self._database.read() as connection:
            rows = _unsent(connection, incident_log, limit)
            found = _by_id(connection, incidents, "incident_id", (row["incident_id"] for row in rows))
        return [
            IncidentChange(
                number=row["id"], state=IncidentState(row["kind"]), at=row["at"], who=row["who"], detail=row["text"],
                **{name: found[row["incident_id"]][name] for name in names},
            )
            for row in rows
        ]  # fmt: skip

    def mark_actions_sent(self, numbers: Sequence[int]) -> None:
        """Never give these steps again."""
        self._mark(action_history, numbers)

    def mark_incidents_sent(self, numbers: Sequence[int]) -> None:
        """Never give these changes again."""
        self._mark(incident_log, numbers)

    def _mark(self, table: Table, numbers: Sequence[int]) -> None:
        with self._database.write() as connection:
            for chunk in chunks(numbers):
                connection.execute(update(table).where(table.c.id.in_(chunk)).values(unsent=False))


def _unsent(connection: Connection, table: Table, limit: int) -> Sequence[RowMapping]:
    query = select(table).where(table.c.unsent).order_by(table.c.id).limit(max(0, min(limit, MAX_ROWS)))
    return connection.execute(query).mappings().all()


def _by_id(connection: Connection, table: Table, key: str, ids: Iterable[str | None]) -> Mapping[str, RowMapping]:
    found: dict[str, RowMapping] = {}
    for chunk in chunks(sorted({one for one in ids if one})):
        found |= {row[key]: row for row in connection.execute(select(table).where(table.c[key].in_(chunk))).mappings()}
    return found


def _steps(connection: Connection, row: Mapping[Any, Any]) -> tuple[StepTaken, ...]:
    """The newest steps of an action up to the one in ``row``."""
    upto = (action_history.c.action_id == row["action_id"], action_history.c.id <= row["id"])
    query = select(action_history).where(*upto).order_by(action_history.c.id.desc()).limit(MAX_STEPS)
    newest = connection.execute(query).mappings().all()
    return tuple(StepTaken(one["at"], ActionState(one["to_state"]), one["detail"]) for one in reversed(newest))
