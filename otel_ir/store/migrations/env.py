"""Run by Alembic: migrates the connection it is given, inside the transaction that is open on it.

Migrations only go forward: going back would drop what the ledger is kept for.
"""

from __future__ import annotations

from alembic import context

from otel_ir.store.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    # SQLite can roll back DDL, Alembic assumes it cannot; a kill between two statements must leave the old schema whole.
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
