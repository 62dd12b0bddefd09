"""Actions, each exactly once, with every step they took, and the one rule which may be taken: ``model_lifecycle.TRANSITIONS``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, RowMapping, func, insert, select, update

from otel_ir.errors import IllegalStep, StorageError
from otel_ir.model_lifecycle import DRILL_SERVICE, IN_FORCE, TOLD, UNFINISHED, WORK, ActionRequest, ActionState, LetGo, may_follow
from otel_ir.store.database import Database
from otel_ir.store.incident_book import refresh
from otel_ir.store.query import MAX_ROWS, insert_ignore, read, where_equal
from otel_ir.store.rows import MAX_FACT, MAX_TEXT, ActionRow, Step, action_values, bounded, bounded_map, to_action_row
from otel_ir.store.schema import action_history, actions, alerts

_ENDED = (ActionState.RELEASED, ActionState.EXPIRED, ActionState.FAILED, ActionState.RELEASING)
"""After these the same step may be asked for anew, as the next turn."""
_STAMPS: Mapping[ActionState, tuple[str, ...]] = {
    ActionState.APPLIED: ("applied_at", "finished_at"),
    ActionState.VERIFIED: ("verified_at",),
    ActionState.FAILED: ("finished_at",),
    ActionState.DRY_RUN: ("finished_at",),
    ActionState.RELEASED: ("ended_at", "finished_at"),
    ActionState.EXPIRED: ("ended_at", "finished_at"),
}
"""Times that a step sets, the first time it is taken."""


class ActionBook:
    """The part of the ledger about actions."""

    _database: Database

    def plan_alert(self, alert_id: str, drafts: Sequence[ActionRequest], at: int) -> list[ActionRequest]:
        """Answer an alert, once: record its requests, and that it was answered. -> the requests that are new, with their turns.

        The durable latch: an alert that was answered gives nothing, and a step that an earlier alert of the incident asked for, and
        that has not ended, is not asked for again. Raises ``StorageError`` for an alert that is not in the ledger.
        """
        with self._database.write() as connection:
            query = select(alerts.c.planned_at).where(alerts.c.alert_id == bounded(alert_id)).with_for_update()
            found = connection.execute(query).first()
            if found is None:
                raise StorageError(f"alert {alert_id} was not recorded in the ledger first")
            if found[0] is not None:
                return []
            connection.execute(update(alerts).where(alerts.c.alert_id == bounded(alert_id)).values(planned_at=at))
            return _request(connection, drafts, at)

    def request_actions(self, drafts: Sequence[ActionRequest], at: int) -> list[ActionRequest]:
        """Record requests that come from no alert (a person, a similar agent, the next rung). -> the new ones, with their turns."""
        with self._database.write() as connection:
            return _request(connection, drafts, at)

    def request_action(self, action: ActionRequest) -> bool:
        """Record one request as it is; ``False`` when its id stands there already, in whatever state."""
        with self._database.write() as connection:
            return _insert(connection, action)

    def transition(
        self, action_id: str, to_state: ActionState | str, at: int, detail: str = "", *,
        facts: Mapping[str, str] | None = None, expect: ActionState | None = None,
    ) -> None:  # fmt: skip
        """One step of the life of an action (``model_lifecycle.TRANSITIONS``). ``at``: Unix nanoseconds; ``facts`` are kept.

        Raises ``StorageError`` for an unknown action, ``IllegalStep`` for a step which is not in the table, for one that would
        dispatch a dry run, and where the action is not in ``expect`` any more; nothing is changed then.
        """
        with self._database.write() as connection:
            row = _locked(connection, action_id)
            if expect is not None and row["state"] != expect:
                raise IllegalStep(f"action {action_id} is {row['state']} by now, not {expect}")
            if not may_follow(row["state"], to_state) or (row["mode"] != "enforce" and to_state == ActionState.DISPATCHED):
                raise IllegalStep(f"action {action_id} ({row['mode']}): {row['state']} -> {to_state} is not a legal step")
            changes = {"facts": bounded_map(facts, MAX_FACT)} if facts else {}
            _take(connection, row, ActionState(to_state), at, detail, changes)

    def let_go(self, action_id: str, decision: LetGo) -> bool:
        """Decide that an action is to be let go of; the next step is the adapter's. ``False``: there is nothing to let go of."""
        with self._database.write() as connection:
            row = _locked(connection, action_id)
            state = ActionState(row["state"])
            if state is ActionState.FAILED and not row["attempts"]:
                return False
            following = ActionState.RELEASED if state is ActionState.REQUESTED else ActionState.RELEASING
            if state is ActionState.RELEASING or not may_follow(state, following):
                return False
            who = f" by {decision.by}" if decision.by else ""
            text = f"{decision.reason or 'no reason given'}{who}"
            _take(connection, row, following, decision.at, text, {"let_go": decision._asdict()})
        return True

    def amend(
        self, action_id: str, at: int, detail: str, *,
        target: Mapping[str, str] | None = None, expires_at: int | None = None, facts: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """What is known of an action changed and its state did not: a wider target, a longer life, facts. The history tells it."""
        with self._database.write() as connection:
            row = _locked(connection, action_id)
            changes: dict[str, Any] = {}
            if target is not None:
                changes["target"] = bounded_map(target)
            if expires_at is not None:
                changes["expires_at"] = expires_at
            if facts is not None:
                changes["facts"] = bounded_map(facts, MAX_FACT)
            if changes:
                connection.execute(update(actions).where(actions.c.id == row["id"]).values(changes))
            state = ActionState(row["state"])
            _add_step(connection, action_id, Step(at=at, from_state=state, to_state=state, detail=bounded(detail, MAX_TEXT)))

    def mark_checked(self, action_id: str, at: int) -> None:
        """It was looked at, and nothing changed."""
        with self._database.write() as connection:
            connection.execute(update(actions).where(actions.c.action_id == action_id).values(checked_at=at))

    def unfinished_actions(self, limit: int = MAX_ROWS) -> list[ActionRow]:
        """Requested or dispatched and without an outcome, oldest first: try them again with the same ``action_id``."""
        return self.actions(states=UNFINISHED, limit=limit, oldest=True)

    def work(self, limit: int = MAX_ROWS) -> list[ActionRow]:
        """Actions that wait for something otel_ir does (``model_lifecycle.WORK``), oldest first."""
        return self.actions(states=WORK, limit=limit, oldest=True)

    def in_force(self, limit: int = MAX_ROWS) -> list[ActionRow]:
        """Actions whose target may be held (``model_lifecycle.IN_FORCE``, and those dispatched), oldest first."""
        return self.actions(states=(*IN_FORCE, ActionState.DISPATCHED), limit=limit, oldest=True)

    def actions(
        self,
        *,
        action_id: str | None = None,
        alert_id: str | None = None,
        incident_id: str | None = None,
        adapter: str | None = None,
        verb: str | None = None,
        states: Sequence[ActionState | str] | None = None,
        limit: int = 100,
        oldest: bool = False,
    ) -> list[ActionRow]:
        """Actions, newest first (or ``oldest``); every filter that is given must hold."""
        equal = {"action_id": action_id, "alert_id": alert_id, "incident_id": incident_id, "adapter": adapter, "verb": verb}
        query = where_equal(select(actions), actions, equal)
        if states is not None:
            query = query.where(actions.c.state.in_([str(state) for state in states]))
        query = query.order_by(actions.c.id if oldest else actions.c.id.desc())
        return [to_action_row(row) for row in read(self._database, query, limit)]

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
            for row in read(self._database, query)
        ]

    def dispatched_since(self, at: int) -> list[tuple[str, str, int]]:
        """Tenants and services of whom actions were first dispatched since ``at``, and when (ns): what a restart must count."""
        query = select(actions.c.target, actions.c.dispatched_at).where(actions.c.dispatched_at >= at, actions.c.cause != "person")
        rows = read(self._database, query.order_by(actions.c.dispatched_at))
        return [(row["target"].get("otel_ir.tenant", ""), row["target"].get("service.name", ""), row["dispatched_at"]) for row in rows]

    def held_agents(self, tenant: str) -> set[str]:
        """Agents of a tenant that an enforced action holds or is about to hold: what counts against the share of the fleet. No drills."""
        states = [state.value for state in (*IN_FORCE, *UNFINISHED)]
        agent, owner, service = (actions.c.target[name].as_string() for name in ("otel_ir.agent.id", "otel_ir.tenant", "service.name"))
        query = select(agent.label("agent")).where(
            actions.c.state.in_(states),
            actions.c.mode == "enforce",
            actions.c.verb != "rotate_credentials",
            func.coalesce(owner, "") == tenant,
            func.coalesce(service, "") != DRILL_SERVICE,
        )
        return {row["agent"] for row in read(self._database, query.distinct()) if row["agent"]}


def _request(connection: Connection, drafts: Sequence[ActionRequest], at: int) -> list[ActionRequest]:
    new: list[ActionRequest] = []
    for draft in drafts:
        same = (
            actions.c.incident_id == draft.incident_id,
            actions.c.verb == bounded(draft.verb),
            actions.c.adapter == bounded(draft.adapter),
            actions.c.subject == bounded(draft.subject),
        )
        query = (
            select(actions.c.state, actions.c.mode, actions.c.turn, actions.c.let_go).where(*same).order_by(actions.c.turn.desc()).limit(1)
        )
        last = connection.execute(query).first()
        request = draft
        if last is not None:
            # A dry run is asked for again when the same step would now be enforced. What was to be let go of, and may hold all the
            # same, is asked for by nobody any more: it must not stand for what is asked for now.
            over = ActionState(last[0]) in _ENDED or (last[0] == ActionState.DRY_RUN and draft.mode == "enforce")
            over = over or (last[0] == ActionState.UNVERIFIED and last[3] is not None)
            if not over:
                continue
            request = replace(draft, turn=last[2] + 1)
        if _insert(connection, request):
            new.append(request)
    for incident, request in {request.incident_id: request for request in new}.items():
        refresh(connection, incident, at, f"{request.verb} through {request.adapter} was asked for")
    return new


def _insert(connection: Connection, action: ActionRequest) -> bool:
    statement = insert_ignore(connection, actions, "action_id").returning(actions.c.action_id)
    if connection.execute(statement, action_values(action)).first() is None:
        return False
    first = Step(at=action.requested_at, from_state=None, to_state=ActionState.REQUESTED, detail="")
    _add_step(connection, action.action_id, first)
    return True


def _locked(connection: Connection, action_id: str) -> RowMapping:
    row = connection.execute(select(actions).where(actions.c.action_id == action_id).with_for_update()).mappings().first()
    if row is None:
        raise StorageError(f"action {action_id}: is not in the ledger")
    return row


def _take(connection: Connection, row: RowMapping, following: ActionState, at: int, detail: str, changes: dict[str, Any]) -> None:
    text = bounded(detail, MAX_TEXT)
    changes |= {"state": following.value, "detail": text}
    changes |= {name: row[name] or at for name in _STAMPS.get(following, ())}
    if following is ActionState.DISPATCHED:
        changes |= {"attempts": row["attempts"] + 1, "dispatched_at": row["dispatched_at"] or at}
    if following in (ActionState.VERIFIED, ActionState.UNVERIFIED, ActionState.VIOLATED):
        changes["checked_at"] = at
    connection.execute(update(actions).where(actions.c.id == row["id"]).values(changes))
    _add_step(connection, row["action_id"], Step(at=at, from_state=ActionState(row["state"]), to_state=following, detail=text))
    refresh(connection, row["incident_id"], at, f"{row['verb']} through {row['adapter']} is {following}")


def _add_step(connection: Connection, action_id: str, step: Step) -> None:
    unsent = step.to_state in TOLD and step.from_state != step.to_state
    connection.execute(insert(action_history), asdict(step) | {"action_id": action_id, "unsent": unsent})
