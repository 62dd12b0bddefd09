"""What each agent's telemetry is written in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """From 0002. Agents that were seen before have none until they are seen again."""
    op.add_column("agents", sa.Column("dialects", sa.JSON, nullable=False, server_default="[]"))
