"""Incidents: alerts about one agent that belong together, their life, and what people said and ordered."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, insert, or_, select, update

from otel_ir.model import SEVERITIES, Alert
from otel_ir.model_lifecycle import DRILL_SERVICE, ActionState, IncidentState, LogEntry, Order, incident_id
from otel_ir.store.database import Database
from otel_ir.store.query import MAX_ROWS, chunks, insert_ignore, read, where_equal
from otel_ir.store.rows import MAX_TEXT, IncidentRow, bounded, to_incident_row, to_order
from otel_ir.store.schema import actions, alerts, incident_log, incidents, orders

_STATES = frozenset(state.value for state in IncidentState)
"""Kinds of entries that are told outside."""
_LIVE = tuple(state.value for state in IncidentState if state is not IncidentState.CLOSED)
_HELD = frozenset({ActionState.REQUESTED, ActionState.DISPATCHED, ActionState.APPLIED, ActionState.UNVERIFIED, ActionState.ESCALATED})
_ENDED = frozenset({ActionState.RELEASING, ActionState.RELEASED, ActionState.EXPIRED})


def state_of(states: set[ActionState]) -> IncidentState:
    """The state of an incident whose actions are in ``states``. ``contained`` only where something is verified and nothing violated."""
    if ActionState.VIOLATED in states:
        return IncidentState.OPEN
    if ActionState.VERIFIED in states:
        return IncidentState.CONTAINED
    return IncidentState.RECOVERING if states & _ENDED and not states & _HELD else IncidentState.OPEN


def assign(connection: Connection, new: Sequence[Alert], at: int) -> dict[str, str]:
    """Alert ids to incidents: one not closed about the same agent (while that is unknown, about the same trace), else a new one.

    Only ever of the same service: a step is taken once for an incident, and the alert of one service must not stand for another's.
    """
    live = _live(connection, new)
    found: dict[str, str] = {}
    for alert in new:
        keys = _keys(alert.tenant, bounded(alert.service), bounded(alert.agent_id), alert.agent_id_source, bounded(alert.trace_id))
        row = next((live[key] for key in keys if key in live), None)
        if row is None:
            row = _open(connection, alert, at)
        elif at >= row["last_alert_at"]:
            _join(connection, row, alert, at)
        live |= dict.fromkeys(keys, row)
        found[alert.alert_id] = row["incident_id"]
    return found


Key = tuple[str, str, str, str]


def _keys(tenant: str, service: str, agent_id: str, source: str, trace_id: str) -> list[Key]:
    by_agent = (tenant, service, "agent", agent_id)
    return [by_agent, (tenant, service, "trace", trace_id)] if source == "none" and trace_id else [by_agent]


def _live(connection: Connection, new: Sequence[Alert]) -> dict[Key, dict[str, Any]]:
    live: dict[Key, dict[str, Any]] = {}
    ids = sorted({bounded(alert.agent_id) for alert in new} | {bounded(alert.trace_id) for alert in new if alert.trace_id})
    for chunk in chunks(ids):
        about = or_(incidents.c.agent_id.in_(chunk), incidents.c.trace_id.in_(chunk))
        # Not a list of states: SQLite would go through all live incidents by the index of states, instead of through those of these ids.
        live_ones = incidents.c.state != IncidentState.CLOSED.value
        query = select(incidents).where(live_ones, about).order_by(incidents.c.opened_at, incidents.c.incident_id)
        for found in connection.execute(query.limit(MAX_ROWS)).mappings():
            row = dict(found)
            live |= dict.fromkeys(_keys(row["tenant"], row["service"], row["agent_id"], row["agent_id_source"], row["trace_id"]), row)
    return live


def _open(connection: Connection, alert: Alert, at: int) -> dict[str, Any]:
    row = {
        "incident_id": incident_id(alert.event_time, bounded(alert.alert_id)),
        "tenant": bounded(alert.tenant),
        "agent_id": bounded(alert.agent_id),
        "agent_id_source": bounded(alert.agent_id_source),
        "sender": bounded(alert.sender),
        "service": bounded(alert.service),
        "trace_id": bounded(alert.trace_id),
        "severity": bounded(alert.severity),
        "title": bounded(alert.title, MAX_TEXT),
        "state": IncidentState.OPEN.value,
        "drill": alert.service == DRILL_SERVICE,
        "opened_at": at,
        "last_alert_at": at,
    }
    opened = insert_ignore(connection, incidents, "incident_id").returning(incidents.c.incident_id)
    if connection.execute(opened, row).first() is not None:
        log(connection, str(row["incident_id"]), LogEntry(at, IncidentState.OPEN, "", alert.title or alert.signal))
    return row


def _join(connection: Connection, row: dict[str, Any], alert: Alert, at: int) -> None:
    known = {severity: rank for rank, severity in enumerate(SEVERITIES)}
    worse = known.get(alert.severity, -1) > known.get(row["severity"], -1)
    row |= {"last_alert_at": at} | ({"severity": alert.severity} if worse else {})
    where = incidents.c.incident_id == row["incident_id"]
    connection.execute(update(incidents).where(where).values(last_alert_at=row["last_alert_at"], severity=row["severity"]))


def readdress(connection: Connection, alert: Alert, of: str | None, at: int) -> str | None:
    """The agent of an alert became known. -> the incident it belongs to now: the same one, or another if that is about another agent."""
    row = connection.execute(select(incidents).where(incidents.c.incident_id == of)).mappings().first()
    if row is None or alert.agent_id_source == "none" or row["agent_id"] == bounded(alert.agent_id):
        return of
    if row["agent_id_source"] == "none":
        known = {"agent_id": bounded(alert.agent_id), "agent_id_source": bounded(alert.agent_id_source)}
        connection.execute(update(incidents).where(incidents.c.incident_id == of).values(known))
        return of
    return assign(connection, [alert], at)[alert.alert_id]


def refresh(connection: Connection, of: str | None, at: int, why: str) -> None:
    """Bring the state of an incident up to what its actions are now; where it changes, its log says so, and why."""
    row = connection.execute(select(incidents).where(incidents.c.incident_id == of)).mappings().first()
    if row is None or row["state"] == IncidentState.CLOSED:
        return
    found = connection.execute(select(actions.c.state).where(actions.c.incident_id == of).distinct()).scalars()
    state = state_of({ActionState(one) for one in found})
    if state == row["state"]:
        return
    values: dict[str, Any] = {"state": state.value}
    if state is IncidentState.CONTAINED:
        values["contained_at"] = row["contained_at"] or at
    # A watch that was broken off by a new action begins anew.
    values |= {"recovering_at": at if state is IncidentState.RECOVERING else None, "watch_until": None}
    connection.execute(update(incidents).where(incidents.c.incident_id == of).values(values))
    log(connection, row["incident_id"], LogEntry(at, state, "", why))


def log(connection: Connection, of: str, entry: LogEntry) -> None:
    """Add an entry to the incident's log; one whose kind is a state is told outside."""
    values = {"at": entry.at, "who": bounded(entry.who), "text": bounded(entry.text, MAX_TEXT), "incident_id": of}
    state = {"kind": str(entry.kind), "unsent": entry.kind in _STATES}
    connection.execute(insert(incident_log), values | state)


class IncidentBook:
    """The part of the ledger about incidents."""

    _database: Database

    def incidents(
        self,
        *,
        incident_id: str | None = None,
        agent_id: str | None = None,
        tenant: str | None = None,
        states: Sequence[IncidentState | str] | None = None,
        quiet_since: int | None = None,
        limit: int = 100,
    ) -> list[IncidentRow]:
        """Incidents, newest first; every filter that is given must hold. ``quiet_since`` (ns): no alert joined them after that."""
        equal = {"incident_id": incident_id, "agent_id": agent_id, "tenant": tenant}
        query = where_equal(select(incidents), incidents, equal)
        if states is not None:
            query = query.where(incidents.c.state.in_([str(state) for state in states]))
        if quiet_since is not None:
            query = query.where(incidents.c.last_alert_at <= quiet_since)
        query = query.order_by(incidents.c.opened_at.desc(), incidents.c.incident_id.desc())
        return [to_incident_row(row) for row in read(self._database, query, limit)]

    def incident_log(self, incident_id: str) -> list[LogEntry]:
        """What happened beside alerts and actions, oldest first."""
        query = select(incident_log).where(incident_log.c.incident_id == incident_id).order_by(incident_log.c.id)
        return [LogEntry(row["at"], row["kind"], row["who"], row["text"]) for row in read(self._database, query)]

    def note(self, incident_id: str, entry: LogEntry) -> None:
        """Add to the incident's log."""
        with self._database.write() as connection:
            log(connection, incident_id, entry)

    def watch(self, incident_id: str, until: int, entry: LogEntry) -> None:
        """A recovering incident is watched until ``until`` (ns), or for longer than it was."""
        where = and_(
            incidents.c.incident_id == incident_id,
            incidents.c.state == IncidentState.RECOVERING.value,
            or_(incidents.c.watch_until.is_(None), incidents.c.watch_until < until),
        )
        with self._database.write() as connection:
            if connection.execute(update(incidents).where(where).values(watch_until=until)).rowcount:
                log(connection, incident_id, entry)

    def close_incident(self, incident_id: str, entry: LogEntry) -> bool:
        """Close it; ``False`` (nothing is changed) while an action of it may be in force or is on its way, an alert of it was not
        answered yet, or when it is closed.
        """
        busy = [state.value for state in (*_HELD, ActionState.VERIFIED, ActionState.VIOLATED, ActionState.RELEASING)]
        held = select(actions.c.id).where(actions.c.incident_id == incident_id, actions.c.state.in_(busy)).exists()
        waiting = select(alerts.c.alert_id).where(alerts.c.incident_id == incident_id, alerts.c.planned_at.is_(None)).exists()
        where = and_(incidents.c.incident_id == incident_id, incidents.c.state.in_(_LIVE), ~held, ~waiting)
        with self._database.write() as connection:
            values = {"state": IncidentState.CLOSED.value, "closed_at": entry.at}
            if not connection.execute(update(incidents).where(where).values(values)).rowcount:
                return False
            log(connection, incident_id, entry)
        return True

    def open_incident(self, tenant: str, service: str, agent_id: str, entry: LogEntry) -> str:
        """The incident a person's order is about: the newest one of that agent that is not closed, else a new one. -> its id.

        The order counts as an alert: what holds already is not let go of a moment later.
        """
        alert = Alert(
            alert_id=_order_key(tenant, agent_id, entry), rule_id="", signal="", ruleset="", severity="", stage="",
            title=f"asked for by {entry.who}: {entry.text}", description="", tenant=tenant, service=service,
            agent_id=agent_id, agent_id_source="own", event_time=entry.at,
        )  # fmt: skip
        with self._database.write() as connection:
            live = _live(connection, [alert])
            row = live.get((tenant, bounded(service), "agent", bounded(agent_id)))
            if row is None:
                row = _open(connection, alert, entry.at)
            elif entry.at > row["last_alert_at"]:
                _join(connection, row, alert, entry.at)
            log(connection, row["incident_id"], entry)
        return str(row["incident_id"])

    # Orders

    def order(self, order: Order) -> int:
        """Put down what a person asks for; the server takes it from here. -> its number."""
        with self._database.write() as connection:
            values = {
                "at": order.at, "who": bounded(order.who), "kind": order.kind, "tenant": bounded(order.tenant),
                "agent_id": bounded(order.agent_id), "incident_id": bounded(order.incident_id), "verbs": list(order.verbs),
                "reason": bounded(order.reason, MAX_TEXT), "answer": "", "ok": False,
            }  # fmt: skip
            number: int = connection.execute(insert(orders).values(values).returning(orders.c.order_id)).scalar_one()
        return number

    def waiting_orders(self, limit: int = 100) -> list[Order]:
        """Orders nobody has taken, oldest first."""
        query = select(orders).where(orders.c.taken_at.is_(None)).order_by(orders.c.order_id)
        return [to_order(row) for row in read(self._database, query, limit)]

    def answer(self, order_id: int, at: int, answer: str, *, ok: bool, incident_id: str = "") -> None:
        """An order was taken; what became of it."""
        values: dict[str, Any] = {"taken_at": at, "answer": bounded(answer, MAX_TEXT), "ok": ok}
        if incident_id:
            values["incident_id"] = incident_id
        with self._database.write() as connection:
            connection.execute(update(orders).where(orders.c.order_id == order_id, orders.c.taken_at.is_(None)).values(values))

    def find_order(self, order_id: int) -> Order | None:
        """One order."""
        rows = read(self._database, select(orders).where(orders.c.order_id == order_id), 1)
        return to_order(rows[0]) if rows else None


def _order_key(tenant: str, agent_id: str, entry: LogEntry) -> str:
    return hashlib.sha256("\0".join((tenant, agent_id, str(entry.at))).encode("utf-8", "surrogatepass")).hexdigest()[:32]
