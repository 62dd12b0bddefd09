"""The tables of the ledger, as they are now. How older ledgers get here: ``migrations/versions``.

Times are Unix nanoseconds. Strings are bounded where they are written (``rows.bounded``), not by the database, so that
SQLite and PostgreSQL hold the same text.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, Integer, MetaData, Table, Text, text

SCHEMA_VERSION = "0001"
"""Newest revision in ``migrations/versions``."""
VERSION_TABLE = "otel_ir_version"
"""Not Alembic's default name: a PostgreSQL database may be shared with another application that uses Alembic."""

# SQLite gives out row ids only to a column of type exactly INTEGER (sqlite.org/autoinc.html).
_ROW_ID = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

incidents = Table(
    "incidents",
    metadata,
    Column("incident_id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("agent_id", Text, nullable=False, index=True),
    Column("opened_at", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("alert_id", Text, nullable=False, unique=True),
    Column("rule_id", Text, nullable=False),
    Column("signal", Text, nullable=False),
    Column("ruleset", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("sender", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("agent_id", Text, nullable=False),
    Column("agent_id_source", Text, nullable=False),
    Column("agent_name", Text),
    Column("conversation_id", Text),
    Column("user_id", Text),
    Column("tool_name", Text),
    Column("trace_id", Text, nullable=False),
    Column("span_id", Text, nullable=False),
    Column("event_time", BigInteger, nullable=False, index=True),
    Column("received", BigInteger, nullable=False),
    Column("ordinal", BigInteger, nullable=False),
    Column("contributing", JSON, nullable=False),
    Column("group", JSON, nullable=False),
    Column("response", Text),
    Column("count", BigInteger, nullable=False),
    Column("identity_ordinal", BigInteger, nullable=False),
    Column("incident_id", Text, ForeignKey("incidents.incident_id"), index=True),
    Column("exported_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Index(None, "agent_id", "event_time"),
    Index("ix_alerts_unexported", "id", sqlite_where=text("exported_at IS NULL"), postgresql_where=text("exported_at IS NULL")),
)
"""One row per alert, in firing order (``id``). The identity columns hold the best identity known, ``identity_ordinal`` since when."""

alert_identities = Table(
    "alert_identities",
    metadata,
    Column("alert_id", Text, ForeignKey("alerts.alert_id"), primary_key=True),
    Column("ordinal", BigInteger, primary_key=True),
    Column("agent_id", Text, nullable=False),
    Column("agent_id_source", Text, nullable=False),
    Column("agent_name", Text),
    Column("conversation_id", Text),
    Column("user_id", Text),
)
"""Whom an alert was addressed to, as of each journal record that changed it; the first row is the firing itself."""

actions = Table(
    "actions",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("action_id", Text, nullable=False, unique=True),
    # Null: an action a person asks for has no alert.
    Column("alert_id", Text, ForeignKey("alerts.alert_id"), index=True),
    Column("verb", Text, nullable=False),
    Column("adapter", Text, nullable=False),
    Column("target", JSON, nullable=False),
    Column("mode", Text, nullable=False),
    Column("state", Text, nullable=False, index=True),
    Column("attempts", Integer, nullable=False),
    Column("requested_at", BigInteger, nullable=False),
    Column("dispatched_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("detail", Text, nullable=False),
)
"""One row per action, in the order requested. ``dispatched_at`` is the first attempt, ``finished_at`` the first outcome."""

action_history = Table(
    "action_history",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("action_id", Text, ForeignKey("actions.action_id"), nullable=False, index=True),
    Column("at", BigInteger, nullable=False),
    Column("from_state", Text),
    Column("to_state", Text, nullable=False),
    Column("detail", Text, nullable=False),
)
"""Append-only: every step of every action."""
