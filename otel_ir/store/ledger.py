"""The ledger: alerts and actions, each exactly once, with everything that happened to them.

Every method is one transaction: it happened wholly or not at all, also over a kill. All of them are idempotent on
``alert_id`` and ``action_id``, because a restart replays from a checkpoint and brings the same alerts again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Insert, RowMapping, Select, Table, and_, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from otel_ir.errors import StorageError
from otel_ir.model import Alert, AlertUpdate
from otel_ir.model_lifecycle import UNFINISHED, ActionRequest, ActionState, may_follow
from otel_ir.store.database import Database
from otel_ir.store.rows import (
    IDENTITY_FIELDS,
    MAX_TEXT,
    ActionRow,
    AlertRow,
    Step,
    action_values,
    alert_values,
    better_identity,
    bounded,
    identity_values,
    to_action_row,
    to_alert_row,
)
from otel_ir.store.schema import action_history, actions, alert_identities, alerts

MAX_ROWS = 10_000
"""Most rows any query gives back."""
_CHUNK = 500
"""Ids in one IN list: far below SQLite's 32,766 and PostgreSQL's 65,535 parameters a statement."""


class Ledger:
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

    # Alerts

    def record_alerts(self, new: Sequence[Alert], at: int) -> list[Alert]:
        """Record what is not there yet and give exactly that back, in the given order. ``at``: now, Unix nanoseconds."""
        if not new:
            return []
        with self._database.write() as connection:
            statement = _insert_ignore(connection, alerts, "alert_id").returning(alerts.c.alert_id)
            added = set(connection.execute(statement, [alert_values(alert, at) for alert in new]).scalars())
            recorded = []
            for alert in new:
                if (key := bounded(alert.alert_id)) in added:
                    added.remove(key)
                    recorded.append(alert)
            if recorded:
                connection.execute(insert(alert_identities), [identity_values(alert) for alert in recorded])
        return recorded

    def apply_updates(self, updates: Sequence[AlertUpdate]) -> None:
        """Raise counts (never lower them) and re-address alerts (never with what an older journal record knew).

        An update of an alert that is not in the ledger is dropped: the alert itself comes first, always.
        """
        by_alert: dict[str, list[AlertUpdate]] = {}
        for change in updates:
            by_alert.setdefault(bounded(change.alert_id), []).append(change)
        if not by_alert:
            return
        with self._database.write() as connection:
            for chunk in _chunks(list(by_alert)):
                _apply(connection, {alert_id: by_alert[alert_id] for alert_id in chunk})

    def unexported(self, limit: int) -> list[Alert]:
        """The oldest alerts nobody was sent yet, at most ``limit``, with the best identity known."""
        query = select(alerts).where(alerts.c.exported_at.is_(None)).order_by(alerts.c.id)
        return [to_alert_row(row).alert for row in self._rows(query, limit)]

    def counts(self, alert_ids: Sequence[str]) -> dict[str, int]:
        """How often the condition of each alert was met so far; unknown ids are left out."""
        found: dict[str, int] = {}
        with self._database.read() as connection:
            for chunk in _chunks([bounded(alert_id) for alert_id in alert_ids]):
                query = select(alerts.c.alert_id, alerts.c.count).where(alerts.c.alert_id.in_(chunk))
                found.update((row["alert_id"], row["count"]) for row in connection.execute(query).mappings())
        return found

    def mark_exported(self, alert_ids: Sequence[str], at: int | None = None) -> None:
        """Never give these to ``unexported`` again; the first time stands. ``at``: Unix nanoseconds, default now."""
        now = time.time_ns() if at is None else at
        with self._database.write() as connection:
            for chunk in _chunks([bounded(alert_id) for alert_id in alert_ids]):
                where = and_(alerts.c.alert_id.in_(chunk), alerts.c.exported_at.is_(None))
                connection.execute(update(alerts).where(where).values(exported_at=now))

    def alerts(
        self,
        *,
        alert_id: str | None = None,
        agent_id: str | None = None,
        tenant: str | None = None,
        rule_id: str | None = None,
        incident_id: str | None = None,
        severities: Sequence[str] | None = None,
        since: int | None = None,
        until: int | None = None,
        limit: int = 100,
    ) -> list[AlertRow]:
        """Alerts by event time, newest first; every filter that is given must hold. ``since`` <= event time < ``until`` (ns)."""
        equal = {"alert_id": alert_id, "agent_id": agent_id, "tenant": tenant, "rule_id": rule_id, "incident_id": incident_id}
        query = _where_equal(select(alerts), alerts, equal)
        if severities is not None:
            query = query.where(alerts.c.severity.in_(list(severities)))
        if since is not None:
            query = query.where(alerts.c.event_time >= since)
        if until is not None:
            query = query.where(alerts.c.event_time < until)
        return [to_alert_row(row) for row in self._rows(query.order_by(alerts.c.event_time.desc(), alerts.c.id.desc()), limit)]

    def addressees(self, alert_id: str) -> list[dict[str, Any]]:
        """Whom the alert was addressed to, oldest first: ``ordinal`` (journal record that told it) and the identity fields."""
        columns = [alert_identities.c.ordinal, *(alert_identities.c[name] for name in IDENTITY_FIELDS)]
        query = select(*columns).where(alert_identities.c.alert_id == bounded(alert_id)).order_by(alert_identities.c.ordinal)
        return [dict(row) for row in self._rows(query, MAX_ROWS)]

    # Actions

    def request_action(self, action: ActionRequest) -> bool:
        """Record the request; ``False`` when it stands there already, in whatever state. The durable latch: act only on ``True``."""
        with self._database.write() as connection:
            statement = _insert_ignore(connection, actions, "action_id").returning(actions.c.action_id)
            if connection.execute(statement, action_values(action)).first() is None:
                return False
            first = Step(at=action.requested_at, from_state=None, to_state=ActionState.REQUESTED, detail="")
            _add_step(connection, action.action_id, first)
        return True

    def transition(self, action_id: str, to_state: ActionState | str, at: int, detail: str = "") -> None:
        """One step of the life of an action (``model_lifecycle.TRANSITIONS``). ``at``: Unix nanoseconds.

        Raises ``StorageError``, and changes nothing, for an unknown action and for a step which is not in the table:
        also for one that would dispatch a dry run.
        """
        with self._database.write() as connection:
            row = connection.execute(select(actions).where(actions.c.action_id == action_id).with_for_update()).mappings().first()
            if row is None:
                raise StorageError(f"action {action_id}: is not in the ledger")
            if not may_follow(row["state"], to_state) or (row["mode"] != "enforce" and to_state == ActionState.DISPATCHED):
                raise StorageError(f"action {action_id} ({row['mode']}): {row['state']} -> {to_state} is not a legal step")
            following, text = ActionState(to_state), bounded(detail, MAX_TEXT)
            changes: dict[str, Any] = {"state": following.value, "detail": text}
            if following is ActionState.DISPATCHED:
                changes |= {"attempts": row["attempts"] + 1, "dispatched_at": row["dispatched_at"] or at}
            elif following not in UNFINISHED:
                changes["finished_at"] = row["finished_at"] or at
            connection.execute(update(actions).where(actions.c.id == row["id"]).values(changes))
            step = Step(at=at, from_state=ActionState(row["state"]), to_state=following, detail=text)
            _add_step(connection, action_id, step)

    def unfinished_actions(self, limit: int = MAX_ROWS) -> list[ActionRow]:
        """Requested or dispatched and without an outcome, oldest first: try them again with the same ``action_id``."""
        query = select(actions).where(actions.c.state.in_([state.value for state in UNFINISHED])).order_by(actions.c.id)
        return [to_action_row(row) for row in self._rows(query, limit)]

    def actions(
        self,
        *,
        action_id: str | None = None,
        alert_id: str | None = None,
        adapter: str | None = None,
        verb: str | None = None,
        states: Sequence[ActionState | str] | None = None,
        limit: int = 100,
    ) -> list[ActionRow]:
        """Actions, newest first; every filter that is given must hold."""
        query = _where_equal(select(actions), actions, {"action_id": action_id, "alert_id": alert_id, "adapter": adapter, "verb": verb})
        if states is not None:
            query = query.where(actions.c.state.in_([str(state) for state in states]))
        return [to_action_row(row) for row in self._rows(query.order_by(actions.c.id.desc()), limit)]

    def history(self, action_id: str) -> list[Step]:
        """Every step of one action, oldest first."""
        query = select(action_history).where(action_history.c.action_id == action_id).order_by(action_history.c.id)
        return [
            Step(
                at=row["at"],
                from_state=ActionState(row["from_state"]) if row["from_state"] else None,
                to_state=ActionState(row["to_state"]),
                detail=row["detail"],
            )
            for row in self._rows(query, MAX_ROWS)
        ]

    def _rows(self, query: Select[Any], limit: int) -> Sequence[RowMapping]:
        with self._database.read() as connection:
            return connection.execute(query.limit(max(0, min(limit, MAX_ROWS)))).mappings().all()


def _insert_ignore(connection: Connection, table: Table, key: str) -> Any:
    """INSERT that leaves a row alone whose ``key`` is there already; both dialects spell it alike."""
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement: Insert = dialect.insert(table).on_conflict_do_nothing(index_elements=[key])
    return statement


def _where_equal(query: Select[Any], table: Table, wanted: Mapping[str, str | None]) -> Select[Any]:
    for name, value in wanted.items():
        if value is not None:
            query = query.where(table.c[name] == bounded(value))
    return query


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))


def _add_step(connection: Connection, action_id: str, step: Step) -> None:
    connection.execute(insert(action_history), asdict(step) | {"action_id": action_id})


def _apply(connection: Connection, by_alert: Mapping[str, Sequence[AlertUpdate]]) -> None:
    columns = [alerts.c[name] for name in ("alert_id", "count", "identity_ordinal", *IDENTITY_FIELDS)]
    query = select(*columns).where(alerts.c.alert_id.in_(list(by_alert))).order_by(alerts.c.id).with_for_update()
    changed, readdressed = [], {}
    for found in connection.execute(query).mappings().all():
        row = dict(found)
        for change in by_alert[row["alert_id"]]:
            row["count"] = max(row["count"], change.count or 0)
            better = better_identity(change)
            if better and change.ordinal >= row["identity_ordinal"]:
                row |= better | {"identity_ordinal": change.ordinal}
                readdressed[row["alert_id"], change.ordinal] = {name: row[name] for name in ("alert_id", *IDENTITY_FIELDS)}
        if row != found:
            changed.append({f"new_{name}": value for name, value in row.items()})
    if changed:
        values: dict[str, Any] = {column.name: bindparam(f"new_{column.name}") for column in columns[1:]}
        connection.execute(update(alerts).where(alerts.c.alert_id == bindparam("new_alert_id")).values(values), changed)
    if readdressed:
        dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
        statement = dialect.insert(alert_identities)
        newest = {name: statement.excluded[name] for name in IDENTITY_FIELDS}
        rows = [values | {"ordinal": ordinal} for (_, ordinal), values in readdressed.items()]
        connection.execute(statement.on_conflict_do_update(index_elements=["alert_id", "ordinal"], set_=newest), rows)
