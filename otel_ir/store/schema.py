"""The tables of the ledger, as they are now. How older ledgers get here: ``migrations/versions``.

Times are Unix nanoseconds. Strings are bounded where they are written (``rows.bounded``), not by the database, so that
SQLite and PostgreSQL hold the same text.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, ForeignKey, Index, Integer, MetaData, Table, Text, false, text

SCHEMA_VERSION = "0003"
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
    Column("state", Text, nullable=False, index=True),
    Column("agent_id_source", Text, nullable=False, server_default="none"),
    Column("sender", Text, nullable=False, server_default=""),
    Column("service", Text, nullable=False, server_default=""),
    Column("trace_id", Text, nullable=False, server_default="", index=True),
    Column("severity", Text, nullable=False, server_default=""),
    Column("title", Text, nullable=False, server_default=""),
    Column("drill", Boolean, nullable=False, server_default=false()),
    Column("last_alert_at", BigInteger, nullable=False, server_default="0"),
    Column("contained_at", BigInteger),
    Column("recovering_at", BigInteger),
    Column("watch_until", BigInteger),
    Column("closed_at", BigInteger),
)
"""One row per incident. ``agent_id`` is the best identity known, ``severity`` and ``title`` those of its worst and its first alert.
``contained_at`` is the first time an action was verified, ``last_alert_at`` when its newest alert was recorded."""

incident_log = Table(
    "incident_log",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("incident_id", Text, ForeignKey("incidents.incident_id"), nullable=False, index=True),
    Column("at", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("unsent", Boolean, nullable=False, server_default=false()),
    Index("ix_incident_log_unsent", "id", sqlite_where=text("unsent = 1"), postgresql_where=text("unsent")),
)
"""Append-only: what happened to an incident beside its alerts and actions. ``kind``: a state, where that changed, or another word.
``who``: a person, or empty for otel_ir. ``unsent``: is to be exported and was not yet."""

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
    Column("planned_at", BigInteger),
    Index(None, "agent_id", "event_time"),
    Index("ix_alerts_unplanned", "id", sqlite_where=text("planned_at IS NULL"), postgresql_where=text("planned_at IS NULL")),
    Index("ix_alerts_unexported", "id", sqlite_where=text("exported_at IS NULL"), postgresql_where=text("exported_at IS NULL")),
)
"""One row per alert, in firing order (``id``). The identity columns hold the best identity known, ``identity_ordinal`` since when.
``planned_at``: when it was decided what to do about it; an alert is answered once, however often a replay brings it."""

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
    Column("incident_id", Text, index=True),
    Column("subject", Text, nullable=False, server_default=""),
    Column("turn", Integer, nullable=False, server_default="0"),
    Column("cause", Text, nullable=False, server_default="alert"),
    Column("reason", Text, nullable=False, server_default=""),
    Column("tools", JSON(none_as_null=True)),
    Column("read_only", JSON, nullable=False, server_default="[]"),
    Column("facts", JSON, nullable=False, server_default="{}"),
    Column("expires_at", BigInteger),
    Column("applied_at", BigInteger),
    Column("verified_at", BigInteger),
    Column("checked_at", BigInteger),
    Column("let_go", JSON(none_as_null=True)),
    Column("ended_at", BigInteger),
)
"""One row per action, in the order requested. ``dispatched_at`` is the first attempt, ``finished_at`` the first outcome, ``verified_at``
the first proof, ``checked_at`` the newest check, ``ended_at`` when it was let go of. ``let_go``: who decided that, why, when, which end."""

action_history = Table(
    "action_history",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("action_id", Text, ForeignKey("actions.action_id"), nullable=False, index=True),
    Column("at", BigInteger, nullable=False),
    Column("from_state", Text),
    Column("to_state", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("unsent", Boolean, nullable=False, server_default=false()),
    Index("ix_action_history_unsent", "id", sqlite_where=text("unsent = 1"), postgresql_where=text("unsent")),
)
"""Append-only: every step of every action. ``unsent``: is to be exported and was not yet. A flag in each row, not a position in the
table: on PostgreSQL a row may be committed after another one with a higher ``id``, and a position would have passed it."""

agents = Table(
    "agents",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("agent_id", Text, primary_key=True),
    Column("service", Text, nullable=False),
    Column("name", Text),
    Column("fingerprint", Text, index=True),
    Column("tools", JSON, nullable=False),
    Column("models", JSON, nullable=False),
    Column("first_seen", BigInteger, nullable=False),
    Column("last_seen", BigInteger, nullable=False, index=True),
    Column("dialects", JSON, nullable=False, server_default="[]"),
)
"""The roster: agents that were seen, by tenant. ``fingerprint`` is that of the system prompt."""

guards = Table(
    "guards",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("service", Text, primary_key=True),
    Column("instance", Text, primary_key=True),
    Column("facts", JSON, nullable=False),
    Column("last_seen", BigInteger, nullable=False, index=True),
)
"""Guards that registered: what they said of themselves, and when they were heard of."""

drills = Table(
    "drills",
    metadata,
    Column("drill_id", Text, primary_key=True),
    Column("started_at", BigInteger, nullable=False, index=True),
    Column("outcome", Text, nullable=False),
    Column("figures", JSON, nullable=False),
)
"""Drills: passed or failed, and what was measured."""

orders = Table(
    "orders",
    metadata,
    Column("order_id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("who", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("agent_id", Text, nullable=False),
    Column("incident_id", Text, nullable=False),
    Column("verbs", JSON, nullable=False),
    Column("reason", Text, nullable=False),
    Column("taken_at", BigInteger),
    Column("answer", Text, nullable=False),
    Column("ok", Boolean, nullable=False),
    Index("ix_orders_waiting", "order_id", sqlite_where=text("taken_at IS NULL"), postgresql_where=text("taken_at IS NULL")),
)
"""What a person asked for (``contain``, ``release``, ``close``), and what otel_ir made of it. The server takes them from here."""
