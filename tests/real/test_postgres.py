"""The PostgreSQL that the ledger tests get."""

from __future__ import annotations

import sqlalchemy


def test_each_test_has_an_empty_database_of_its_own(postgres_url: str) -> None:
    engine = sqlalchemy.create_engine(postgres_url)
    try:
        assert engine.dialect.name == "postgresql"
        assert sqlalchemy.inspect(engine).get_table_names() == []
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("CREATE TABLE t (n bigint)"))
            assert connection.execute(sqlalchemy.text("INSERT INTO t VALUES (7) RETURNING n")).scalar_one() == 7
    finally:
        engine.dispose()
