"""Opens the ledger's database: SQLite in one file, or PostgreSQL; brings its schema up to date; gives out transactions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from otel_ir.errors import ConfigError, StorageError
from otel_ir.store.schema import SCHEMA_VERSION, VERSION_TABLE

BUSY_SECONDS = 30
"""How long a writer waits for another process on the same SQLite file."""
_MIGRATIONS = Path(__file__).parent / "migrations"
_ADVISORY_LOCK = 0x6F74656C5F6972
"""Key of the PostgreSQL advisory lock around migrations: the bytes of ``otel_ir``."""
_READ = "otel_ir_read"
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_SECONDS * 1000}")


class Database:
    """One engine. ``write()`` and ``read()`` give transactions; every database error leaves as ``StorageError``. Thread-safe."""

    def __init__(self, url: str) -> None:
        """Raises ``ConfigError`` for an unusable URL, ``StorageError`` when it cannot be opened or is of a newer version."""
        self.url = _parsed(url)
        self._engine = _engine(self.url)
        self._reader = self._engine.execution_options(**{_READ: True})
        try:
            self._migrate()
        except BaseException:
            self.close()
            raise

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that commits at the end of the block, or rolls back when it raises."""
        with self._errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state and waits for no writer."""
        with self._errors(), self._reader.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close every connection that is not in use."""
        self._engine.dispose()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            raise StorageError(f"ledger {self.url.render_as_string()}: {cause}") from error

    def _migrate(self) -> None:
        with self.read() as connection:
            if _version(connection) == SCHEMA_VERSION:
                return
        with self.write() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
            _upgrade(connection, self.url)


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError(f"ledger URL {url!r}: {error}: write sqlite:///FILE or postgresql://HOST/DATABASE") from error
    if parsed.drivername in ("postgresql", "postgres"):
        # SQLAlchemy 2.0 would take psycopg2 here, 2.1 psycopg; the extra installs psycopg.
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise ConfigError(f"ledger URL {parsed.render_as_string()}: only sqlite and postgresql are supported")
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        # Each pooled connection would get a database of its own.
        raise ConfigError(f"ledger URL {parsed.render_as_string()}: needs a file, as in sqlite:///DIR/ledger.db")
    return parsed


def _engine(url: URL) -> Engine:
    try:
        if url.get_backend_name() == "sqlite":
            Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(url, pool_pre_ping=url.get_backend_name() == "postgresql")
    except (ImportError, ArgumentError) as error:
        raise ConfigError(f"ledger URL {url.render_as_string()}: {error}: pip install 'otel_ir[postgres]'") from error
    except OSError as error:
        raise StorageError(f"ledger {url.render_as_string()}: {error}") from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver would begin transactions of its own, later than we do
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later would be refused at once, without waiting, when another process wrote
    # in between (SQLite documentation, "Write-Ahead Logging", SQLITE_BUSY_SNAPSHOT): writers take the lock when they begin.
    reads = connection.get_execution_options().get(_READ, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    version: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 (our own constant)
    return version


def _upgrade(connection: Connection, url: URL) -> None:
    # Here and not above: most starts find the schema up to date and need no Alembic.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    found = _version(connection)
    if found is not None and found not in known:
        raise StorageError(
            f"ledger {url.render_as_string()} has schema {found}; this version of otel_ir knows up to {SCHEMA_VERSION}: upgrade otel_ir"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
