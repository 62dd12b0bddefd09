"""Who is out there: agents that were seen, guards that registered, drills that were held."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from typing import Any

from sqlalchemy import Connection, Select, case, delete, func, insert, select, update

from otel_ir.errors import StorageError
from otel_ir.model_lifecycle import DRILL_SERVICE, IN_FORCE, IncidentState
from otel_ir.store.database import Database
from otel_ir.store.query import chunks, insert_for, read, where_equal
from otel_ir.store.rows import MAX_ENTRIES, bounded
from otel_ir.store.schema import actions, agents, drills, guards, incidents

_LISTS = ("tools", "models", "dialects")
"""What of an agent is joined, whenever it was seen."""
MAX_GUARDS = 1000
"""Guards of a service that the ledger remembers: twice as many as may be there at once. Each process that ever started has a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRow:
    """An agent of the roster. Times in Unix nanoseconds; ``fingerprint`` is that of its system prompt, ``None`` while none was seen."""

    tenant: str
    agent_id: str
    service: str
    name: str | None
    fingerprint: str | None
    tools: tuple[str, ...]
    models: tuple[str, ...]
    first_seen: int
    last_seen: int
    dialects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardRow:
    """A guard that registered; ``facts`` are what it said of itself, ``last_seen`` (ns) when it was heard of."""

    tenant: str
    service: str
    instance: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    last_seen: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillRow:
    """A drill: ``outcome`` is ``passed``, ``failed`` or ``running``; ``figures`` are what it measured."""

    drill_id: str
    started_at: int
    outcome: str
    figures: Mapping[str, Any] = field(default_factory=dict)


class FleetBook:
    """The part of the ledger about agents, guards and drills."""

    _database: Database

    def saw_agents(self, seen: Sequence[AgentRow]) -> None:
        """Add to the roster: tools, models and dialects are joined, times widened, a newer name or fingerprint counts."""
        if not seen:
            return
        with self._database.write() as connection:
            known: dict[tuple[str, str], Mapping[str, Sequence[str]]] = {}
            for ids in chunks(sorted({bounded(row.agent_id) for row in seen})):
                columns = (agents.c.tenant, agents.c.agent_id, *(agents.c[name] for name in _LISTS))
                for found in connection.execute(select(*columns).where(agents.c.agent_id.in_(ids)).with_for_update()).mappings():
                    known[found["tenant"], found["agent_id"]] = {name: found[name] for name in _LISTS}
            values: list[dict[str, Any]] = []
            for row in seen:
                key = bounded(row.tenant), bounded(row.agent_id)
                values.append(_agent_values(row, known.get(key, {})))
                known[key] = values[-1]
            # One statement for all of them: the fold waits for it.
            connection.execute(_join(connection), values)

    def agents(
        self, *, tenant: str | None = None, agent_id: str | None = None, fingerprint: str | None = None,
        service: str | None = None, since: int | None = None, limit: int = 1000,
    ) -> list[AgentRow]:  # fmt: skip
        """The roster, last seen first; every filter that is given must hold. ``since``: seen at or after (ns)."""
        equal = {"tenant": tenant, "agent_id": agent_id, "fingerprint": fingerprint, "service": service}
        query = where_equal(select(agents), agents, equal)
        if since is not None:
            query = query.where(agents.c.last_seen >= since)
        rows = read(self._database, query.order_by(agents.c.last_seen.desc(), agents.c.agent_id), limit)
        return [AgentRow(**dict(row) | {name: tuple(row[name]) for name in _LISTS}) for row in rows]

    def count_agents(self, tenant: str, since: int) -> int:
        """How many agents of a tenant were seen at or after ``since`` (ns), drills not counted."""
        where = (agents.c.tenant == bounded(tenant), agents.c.last_seen >= since, agents.c.service != DRILL_SERVICE)
        query = select(func.count().label("n")).select_from(agents).where(*where)
        return int(read(self._database, query, 1)[0]["n"])

    def saw_guard(self, guard: GuardRow) -> None:
        """A guard registered, or was heard of again. Of each service those are kept that were heard of last, ``MAX_GUARDS`` of them."""
        values = {
            "tenant": bounded(guard.tenant), "service": bounded(guard.service), "instance": bounded(guard.instance),
            "facts": dict(guard.facts), "last_seen": guard.last_seen,
        }  # fmt: skip
        with self._database.write() as connection:
            statement = insert_for(connection, guards)
            newest = {name: statement.excluded[name] for name in ("facts", "last_seen")}
            connection.execute(statement.on_conflict_do_update(index_elements=["tenant", "service", "instance"], set_=newest), values)
            here = (guards.c.tenant == values["tenant"], guards.c.service == values["service"])
            oldest = select(guards.c.last_seen).where(*here).order_by(guards.c.last_seen.desc()).offset(MAX_GUARDS - 1).limit(1)
            connection.execute(delete(guards).where(*here, guards.c.last_seen < oldest.scalar_subquery()))

    def guards(self, *, service: str | None = None, since: int | None = None, limit: int = 1000) -> list[GuardRow]:
        """Guards, last heard of first."""
        query = where_equal(select(guards), guards, {"service": service})
        if since is not None:
            query = query.where(guards.c.last_seen >= since)
        return [GuardRow(**dict(row)) for row in read(self._database, query.order_by(guards.c.last_seen.desc()), limit)]

    def record_drill(self, drill: DrillRow) -> None:
        """Begin a drill, or write down what became of it."""
        values = {
            "drill_id": bounded(drill.drill_id),
            "started_at": drill.started_at,
            "outcome": drill.outcome,
            "figures": dict(drill.figures),
        }
        with self._database.write() as connection:
            where = drills.c.drill_id == values["drill_id"]
            if not connection.execute(update(drills).where(where).values(outcome=drill.outcome, figures=dict(drill.figures))).rowcount:
                connection.execute(insert(drills).values(values))

    def drills(self, limit: int = 100) -> list[DrillRow]:
        """Drills, newest first."""
        return [DrillRow(**dict(row)) for row in read(self._database, select(drills).order_by(drills.c.started_at.desc()), limit)]


def _join(connection: Connection) -> Any:
    """Inserts an agent, or adds to what is known of it."""
    statement = insert_for(connection, agents)
    new = statement.excluded
    later = new.last_seen >= agents.c.last_seen
    return statement.on_conflict_do_update(
        index_elements=["tenant", "agent_id"],
        set_={
            "name": case((later, func.coalesce(new.name, agents.c.name)), else_=agents.c.name),
            "fingerprint": case((later, func.coalesce(new.fingerprint, agents.c.fingerprint)), else_=agents.c.fingerprint),
            **{name: new[name] for name in _LISTS},
            "first_seen": case((new.first_seen < agents.c.first_seen, new.first_seen), else_=agents.c.first_seen),
            "last_seen": case((later, new.last_seen), else_=agents.c.last_seen),
        },
    )


def _agent_values(row: AgentRow, known: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    joined = {name: sorted({*known.get(name, ()), *map(bounded, getattr(row, name))})[:MAX_ENTRIES] for name in _LISTS}
    return {
        "tenant": bounded(row.tenant),
        "agent_id": bounded(row.agent_id),
        "service": bounded(row.service),
        "name": None if row.name is None else bounded(row.name),
        "fingerprint": None if row.fingerprint is None else bounded(row.fingerprint),
        **joined,
        "first_seen": row.first_seen,
        "last_seen": row.last_seen,
    }


def ledger_levels(book: FleetBook) -> dict[str, Callable[[], float]]:
    """The levels that the ledger knows, as metrics; each is read when it is asked for, and is ``nan`` when it cannot be."""

    def one(query: Select[Any], of: Callable[[Any], float]) -> Callable[[], float]:
        def level() -> float:
            try:
                rows = read(book._database, query, 1)
                return of(rows[0]) if rows else of(None)
            except StorageError:
                return nan

        return level

    live = [state.value for state in IncidentState if state is not IncidentState.CLOSED]
    held = [state.value for state in IN_FORCE]
    agent = actions.c.target["otel_ir.agent.id"].as_string()
    newest = select(drills.c.started_at, drills.c.outcome).where(drills.c.outcome != "running").order_by(drills.c.started_at.desc())
    return {
        "otel_ir.incidents": one(select(func.count().label("n")).where(incidents.c.state.in_(live)), lambda row: row["n"]),
        "otel_ir.agents.held": one(select(func.count(agent.distinct()).label("n")).where(actions.c.state.in_(held)), lambda row: row["n"]),
        "otel_ir.drill.age": one(newest, lambda row: time.time() - row["started_at"] / 1e9 if row else -1),
        "otel_ir.drill.passed": one(newest, lambda row: float(row is not None and row["outcome"] == "passed")),
    }
