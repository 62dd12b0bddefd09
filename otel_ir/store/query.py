"""What the parts of the ledger share: bounded reads, inserts that leave a row alone, filters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Insert, RowMapping, Select, Table
from sqlalchemy.dialects import postgresql, sqlite

from otel_ir.store.database import Database
from otel_ir.store.rows import bounded

_Id = TypeVar("_Id")

MAX_ROWS = 10_000
"""Most rows any query gives back."""
_CHUNK = 500
"""Ids in one IN list: far below SQLite's 32,766 and PostgreSQL's 65,535 parameters a statement."""


def read(database: Database, query: Select[Any], limit: int = MAX_ROWS) -> Sequence[RowMapping]:
    """At most ``limit`` rows, in a transaction of their own."""
    with database.read() as connection:
        return connection.execute(query.limit(max(0, min(limit, MAX_ROWS)))).mappings().all()


def insert_for(connection: Connection, table: Table) -> Any:
    """An INSERT of the connection's dialect, with ``on_conflict_...``; both dialects spell that alike."""
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table)


def insert_ignore(connection: Connection, table: Table, *key: str) -> Any:
    """INSERT that leaves a row alone whose ``key`` is there already."""
    statement: Insert = insert_for(connection, table).on_conflict_do_nothing(index_elements=list(key))
    return statement


def where_equal(query: Select[Any], table: Table, wanted: Mapping[str, str | None]) -> Select[Any]:
    """``query`` with every filter that is given."""
    for name, value in wanted.items():
        if value is not None:
            query = query.where(table.c[name] == bounded(value))
    return query


def chunks(ids: Sequence[_Id]) -> Iterator[Sequence[_Id]]:
    """``ids`` in parts that fit into one IN list."""
    return (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))
