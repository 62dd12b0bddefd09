"""Incidents with a life, actions that are checked and let go of, the roster, guards, drills."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_ROW_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _text(name: str, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default=default)


def _time(name: str, *, null: bool = True) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=null)


def _json(name: str, default: str | None = None) -> sa.Column[object]:
    return sa.Column(name, sa.JSON, nullable=False, server_default=default)


def _unsent() -> sa.Column[bool]:
    return sa.Column("unsent", sa.Boolean, nullable=False, server_default=sa.false())


def _index_unsent(table: str) -> None:
    op.create_index(f"ix_{table}_unsent", table, ["id"], sqlite_where=sa.text("unsent = 1"), postgresql_where=sa.text("unsent"))


def upgrade() -> None:
    """From 0001. What older versions recorded has no incident; its alerts count as answered, and its steps as exported."""
    _extend_incidents()
    _extend_actions()
    op.add_column("alerts", _time("planned_at"))
    op.execute("UPDATE alerts SET planned_at = created_at")
    unplanned = sa.text("planned_at IS NULL")
    op.create_index("ix_alerts_unplanned", "alerts", ["id"], sqlite_where=unplanned, postgresql_where=unplanned)
    op.create_table(
        "incident_log",
        sa.Column("id", _ROW_ID, nullable=False, autoincrement=True),
        _text("incident_id"),
        _time("at", null=False),
        *(_text(name) for name in ("kind", "who", "text")),
        _unsent(),
        sa.PrimaryKeyConstraint("id", name="pk_incident_log"),
        sa.ForeignKeyConstraint(["incident_id"], ["incidents.incident_id"], name="fk_incident_log_incident_id"),
    )
    op.create_index("ix_incident_log_incident_id", "incident_log", ["incident_id"])
    op.add_column("action_history", _unsent())
    for table in ("incident_log", "action_history"):
        _index_unsent(table)
    _create_fleet()
    _create_orders()


def _extend_incidents() -> None:
    op.add_column("incidents", _text("agent_id_source", "none"))
    for name in ("sender", "service", "trace_id", "severity", "title"):
        op.add_column("incidents", _text(name, ""))
    op.add_column("incidents", sa.Column("drill", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("incidents", sa.Column("last_alert_at", sa.BigInteger, nullable=False, server_default="0"))
    for name in ("contained_at", "recovering_at", "watch_until", "closed_at"):
        op.add_column("incidents", _time(name))
    op.create_index("ix_incidents_state", "incidents", ["state"])
    op.create_index("ix_incidents_trace_id", "incidents", ["trace_id"])


def _extend_actions() -> None:
    # No foreign key: SQLite cannot add one to a table that is there (sqlite.org/lang_altertable.html), and making the table anew
    # would need its foreign keys switched off, which a transaction cannot do.
    op.add_column("actions", sa.Column("incident_id", sa.Text))
    for name, default in (("subject", ""), ("cause", "alert"), ("reason", "")):
        op.add_column("actions", _text(name, default))
    op.add_column("actions", sa.Column("turn", sa.Integer, nullable=False, server_default="0"))
    op.add_column("actions", sa.Column("tools", sa.JSON))
    for name, default in (("read_only", "[]"), ("facts", "{}")):
        op.add_column("actions", _json(name, default))
    for name in ("expires_at", "applied_at", "verified_at", "checked_at", "ended_at"):
        op.add_column("actions", _time(name))
    op.add_column("actions", sa.Column("let_go", sa.JSON))
    op.create_index("ix_actions_incident_id", "actions", ["incident_id"])


def _create_fleet() -> None:
    op.create_table(
        "agents",
        *(_text(name) for name in ("tenant", "agent_id", "service")),
        *(sa.Column(name, sa.Text) for name in ("name", "fingerprint")),
        *(_json(name) for name in ("tools", "models")),
        *(_time(name, null=False) for name in ("first_seen", "last_seen")),
        sa.PrimaryKeyConstraint("tenant", "agent_id", name="pk_agents"),
    )
    op.create_index("ix_agents_fingerprint", "agents", ["fingerprint"])
    op.create_index("ix_agents_last_seen", "agents", ["last_seen"])
    op.create_table(
        "guards",
        *(_text(name) for name in ("tenant", "service", "instance")),
        _json("facts"),
        _time("last_seen", null=False),
        sa.PrimaryKeyConstraint("tenant", "service", "instance", name="pk_guards"),
    )
    op.create_index("ix_guards_last_seen", "guards", ["last_seen"])
    op.create_table(
        "drills",
        _text("drill_id"),
        _time("started_at", null=False),
        _text("outcome"),
        _json("figures"),
        sa.PrimaryKeyConstraint("drill_id", name="pk_drills"),
    )
    op.create_index("ix_drills_started_at", "drills", ["started_at"])


def _create_orders() -> None:
    op.create_table(
        "orders",
        sa.Column("order_id", _ROW_ID, nullable=False, autoincrement=True),
        _time("at", null=False),
        *(_text(name) for name in ("who", "kind", "tenant", "agent_id", "incident_id")),
        _json("verbs"),
        _text("reason"),
        _time("taken_at"),
        _text("answer"),
        sa.Column("ok", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("order_id", name="pk_orders"),
    )
    waiting = sa.text("taken_at IS NULL")
    op.create_index("ix_orders_waiting", "orders", ["order_id"], sqlite_where=waiting, postgresql_where=waiting)
