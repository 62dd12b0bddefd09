"""Alerts, each exactly once, with whom they were addressed to and the incident they belong to."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, insert, select, update

from otel_ir.model import Alert, AlertUpdate
from otel_ir.store.database import Database
from otel_ir.store.incident_book import assign, readdress
from otel_ir.store.query import chunks, insert_for, insert_ignore, read, where_equal
from otel_ir.store.rows import IDENTITY_FIELDS, AlertRow, alert_values, better_identity, bounded, identity_values, to_alert_row
from otel_ir.store.schema import alert_identities, alerts


class AlertBook:
    """The part of the ledger about alerts."""

    _database: Database

    def record_alerts(self, new: Sequence[Alert], at: int) -> list[Alert]:
        """Record what is not there yet and give exactly that back, in the given order. ``at``: now, Unix nanoseconds.

        Each joins the incident about its agent that is not closed, or opens one.
        """
        if not new:
            return []
        with self._database.write() as connection:
            fresh = _unknown(connection, new)
            if not fresh:
                return []
            places = assign(connection, fresh, at)
            statement = insert_ignore(connection, alerts, "alert_id").returning(alerts.c.alert_id)
            rows = [alert_values(alert, at) | {"incident_id": places[alert.alert_id]} for alert in fresh]
            added = set(connection.execute(statement, rows).scalars())
            recorded = [alert for alert in fresh if bounded(alert.alert_id) in added]
            if recorded:
                connection.execute(insert(alert_identities), [identity_values(alert) for alert in recorded])
        return recorded

    def apply_updates(self, updates: Sequence[AlertUpdate]) -> list[str]:
        """Raise counts (never lower them) and re-address alerts (never with what an older journal record knew).

        -> ids of the alerts whose agent or conversation is known better now. An alert that belongs to another agent's incident then
        moves to its own, and is to be answered anew. An update of an alert that is not in the ledger is dropped: the alert itself
        comes first, always.
        """
        by_alert: dict[str, list[AlertUpdate]] = {}
        for change in updates:
            by_alert.setdefault(bounded(change.alert_id), []).append(change)
        if not by_alert:
            return []
        changed: list[str] = []
        with self._database.write() as connection:
            for chunk in chunks(list(by_alert)):
                changed += _apply(connection, {alert_id: by_alert[alert_id] for alert_id in chunk})
        return changed

    def unexported(self, limit: int) -> list[Alert]:
        """The oldest alerts nobody was sent yet, at most ``limit``, with the best identity known."""
        query = select(alerts).where(alerts.c.exported_at.is_(None)).order_by(alerts.c.id)
        return [to_alert_row(row).alert for row in read(self._database, query, limit)]

    def unplanned(self, limit: int = 1000) -> list[Alert]:
        """The oldest alerts that were not answered yet (``ActionBook.plan_alert``)."""
        query = select(alerts).where(alerts.c.planned_at.is_(None)).order_by(alerts.c.id)
        return [to_alert_row(row).alert for row in read(self._database, query, limit)]

    def counts(self, alert_ids: Sequence[str]) -> dict[str, int]:
        """How often the condition of each alert was met so far; unknown ids are left out."""
        found: dict[str, int] = {}
        with self._database.read() as connection:
            for chunk in chunks([bounded(alert_id) for alert_id in alert_ids]):
                query = select(alerts.c.alert_id, alerts.c.count).where(alerts.c.alert_id.in_(chunk))
                found.update((row["alert_id"], row["count"]) for row in connection.execute(query).mappings())
        return found

    def mark_exported(self, alert_ids: Sequence[str], at: int | None = None) -> None:
        """Never give these to ``unexported`` again; the first time stands. ``at``: Unix nanoseconds, default now."""
        now = time.time_ns() if at is None else at
        with self._database.write() as connection:
            for chunk in chunks([bounded(alert_id) for alert_id in alert_ids]):
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
        query = where_equal(select(alerts), alerts, equal)
        if severities is not None:
            query = query.where(alerts.c.severity.in_(list(severities)))
        if since is not None:
            query = query.where(alerts.c.event_time >= since)
        if until is not None:
            query = query.where(alerts.c.event_time < until)
        return [to_alert_row(row) for row in read(self._database, query.order_by(alerts.c.event_time.desc(), alerts.c.id.desc()), limit)]

    def addressees(self, alert_id: str) -> list[dict[str, Any]]:
        """Whom the alert was addressed to, oldest first: ``ordinal`` (journal record that told it) and the identity fields."""
        columns = [alert_identities.c.ordinal, *(alert_identities.c[name] for name in IDENTITY_FIELDS)]
        query = select(*columns).where(alert_identities.c.alert_id == bounded(alert_id)).order_by(alert_identities.c.ordinal)
        return [dict(row) for row in read(self._database, query)]


def _unknown(connection: Connection, new: Sequence[Alert]) -> list[Alert]:
    """Those that are not in the ledger, each once."""
    by_id: dict[str, Alert] = {}
    for alert in new:
        by_id.setdefault(bounded(alert.alert_id), alert)
    known: set[str] = set()
    for chunk in chunks(list(by_id)):
        known |= set(connection.execute(select(alerts.c.alert_id).where(alerts.c.alert_id.in_(chunk))).scalars())
    return [alert for alert_id, alert in by_id.items() if alert_id not in known]


_CHANGING = ("count", "identity_ordinal", *IDENTITY_FIELDS, "incident_id", "planned_at")


def _apply(connection: Connection, by_alert: Mapping[str, Sequence[AlertUpdate]]) -> list[str]:
    query = select(alerts).where(alerts.c.alert_id.in_(list(by_alert))).order_by(alerts.c.id).with_for_update()
    changed, readdressed = [], {}
    for found in connection.execute(query).mappings().all():
        row = {name: found[name] for name in ("alert_id", *_CHANGING)}
        for change in by_alert[row["alert_id"]]:
            row["count"] = max(row["count"], change.count or 0)
            better = better_identity(change)
            if better and change.ordinal >= row["identity_ordinal"]:
                row |= better | {"identity_ordinal": change.ordinal}
                readdressed[row["alert_id"], change.ordinal] = {name: row[name] for name in ("alert_id", *IDENTITY_FIELDS)}
        if any(row[name] != found[name] for name in ("agent_id", "agent_id_source")):
            place = readdress(connection, to_alert_row(dict(found) | row).alert, row["incident_id"], found["created_at"])
            if place != row["incident_id"]:
                row |= {"incident_id": place, "planned_at": None}
        if any(row[name] != found[name] for name in _CHANGING):
            changed.append({f"new_{name}": value for name, value in row.items()})
    if changed:
        values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in _CHANGING}
        connection.execute(update(alerts).where(alerts.c.alert_id == bindparam("new_alert_id")).values(values), changed)
    if readdressed:
        statement = insert_for(connection, alert_identities)
        newest = {name: statement.excluded[name] for name in IDENTITY_FIELDS}
        rows = [values | {"ordinal": ordinal} for (_, ordinal), values in readdressed.items()]
        connection.execute(statement.on_conflict_do_update(index_elements=["alert_id", "ordinal"], set_=newest), rows)
    return list(dict.fromkeys(alert_id for alert_id, _ in readdressed))
