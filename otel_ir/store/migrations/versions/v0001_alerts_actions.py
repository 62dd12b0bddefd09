"""Alerts, their identities, actions, their history, incidents."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _text(name: str, *, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=null)


def _time(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=null)


def upgrade() -> None:
    """From an empty database."""
    op.create_table(
        "incidents",
        _text("incident_id"),
        _text("tenant"),
        _text("agent_id"),
        _time("opened_at"),
        _text("state"),
        sa.PrimaryKeyConstraint("incident_id", name="pk_incidents"),
    )
    op.create_index("ix_incidents_agent_id", "incidents", ["agent_id"])
    _create_alerts()
    op.create_table(
        "alert_identities",
        _text("alert_id"),
        sa.Column("ordinal", sa.BigInteger, nullable=False),
        _text("agent_id"),
        _text("agent_id_source"),
        _text("agent_name", null=True),
        _text("conversation_id", null=True),
        _text("user_id", null=True),
        sa.PrimaryKeyConstraint("alert_id", "ordinal", name="pk_alert_identities"),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.alert_id"], name="fk_alert_identities_alert_id"),
    )
    _create_actions()


def _create_alerts() -> None:
    required = ("rule_id", "signal", "ruleset", "severity", "stage", "title", "description")
    op.create_table(
        "alerts",
        sa.Column("id", _ROW_ID, nullable=False, autoincrement=True),
        _text("alert_id"),
        *(_text(name) for name in required),
        sa.Column("tags", sa.JSON, nullable=False),
        *(_text(name) for name in ("tenant", "sender", "service")),
        *(_text(name) for name in ("agent_id", "agent_id_source")),
        *(_text(name, null=True) for name in ("agent_name", "conversation_id", "user_id", "tool_name")),
        *(_text(name) for name in ("trace_id", "span_id")),
        *(_time(name) for name in ("event_time", "received", "ordinal")),
        sa.Column("contributing", sa.JSON, nullable=False),
        sa.Column("group", sa.JSON, nullable=False),
        _text("response", null=True),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("identity_ordinal", sa.BigInteger, nullable=False),
        _text("incident_id", null=True),
        _time("exported_at", null=True),
        _time("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_alerts"),
        sa.UniqueConstraint("alert_id", name="uq_alerts_alert_id"),
        sa.ForeignKeyConstraint(["incident_id"], ["incidents.incident_id"], name="fk_alerts_incident_id"),
    )
    op.create_index("ix_alerts_event_time", "alerts", ["event_time"])
    op.create_index("ix_alerts_incident_id", "alerts", ["incident_id"])
    op.create_index("ix_alerts_agent_id_event_time", "alerts", ["agent_id", "event_time"])
    unexported = sa.text("exported_at IS NULL")
    op.create_index("ix_alerts_unexported", "alerts", ["id"], sqlite_where=unexported, postgresql_where=unexported)


def _create_actions() -> None:
    op.create_table(
        "actions",
        sa.Column("id", _ROW_ID, nullable=False, autoincrement=True),
        _text("action_id"),
        _text("alert_id", null=True),
        _text("verb"),
        _text("adapter"),
        sa.Column("target", sa.JSON, nullable=False),
        _text("mode"),
        _text("state"),
        sa.Column("attempts", sa.Integer, nullable=False),
        _time("requested_at"),
        _time("dispatched_at", null=True),
        _time("finished_at", null=True),
        _text("detail"),
        sa.PrimaryKeyConstraint("id", name="pk_actions"),
        sa.UniqueConstraint("action_id", name="uq_actions_action_id"),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.alert_id"], name="fk_actions_alert_id"),
    )
    op.create_index("ix_actions_alert_id", "actions", ["alert_id"])
    op.create_index("ix_actions_state", "actions", ["state"])
    op.create_table(
        "action_history",
        sa.Column("id", _ROW_ID, nullable=False, autoincrement=True),
        _text("action_id"),
        _time("at"),
        _text("from_state", null=True),
        _text("to_state"),
        _text("detail"),
        sa.PrimaryKeyConstraint("id", name="pk_action_history"),
        sa.ForeignKeyConstraint(["action_id"], ["actions.action_id"], name="fk_action_history_action_id"),
    )
    op.create_index("ix_action_history_action_id", "action_history", ["action_id"])
