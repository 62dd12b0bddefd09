"""One append-only Delta Lake table with exactly-once appends.

The Parquet files are written by Arrow and committed with the Delta library's write transaction: a third less CPU than its own
partitioned writer (measured on 460-byte events), and on a local disk the data is synced *before* the commit names it, so a
power cut cannot leave a table that refers to missing data. Each commit carries an app transaction (Delta protocol,
"Transaction Identifiers"): the journal ordinal through which rows are contained.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Field, Schema, Transaction
from deltalake.exceptions import CommitFailedError
from deltalake.fs import DeltaStorageHandler
from deltalake.transaction import AddAction, RemoveAction
from pyarrow.fs import PyFileSystem

from otel_ir.errors import StorageError
from otel_ir.store.columns import delta_type, logical_name, stored_name
from otel_ir.store.files import sync

_log = logging.getLogger(__name__)

APP_ID = "otel_ir"
FORMAT = "1"
_FORMAT_KEY = "otel_ir.format"
_KEEP = "interval 1 days"
ROW_GROUP = 131_072
MAX_EXTRA_COLUMNS = 256
"""Columns beyond the table's own that rules may bring; what comes after is left out, with a warning."""
SMALL_FILE = 8 * 1024 * 1024
"""Bytes. Smaller files are joined up to about this size, larger ones are never touched: a row is rewritten only a few times."""
MIN_SMALL_FILES = 8
MAX_JOINS = 4
"""Files written by one call of ``maintain``."""
VACUUM_SECONDS = 6 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSpec:
    """What a table looks like. ``partition`` is a Date column of ``columns``; ``stats`` are Int64 columns by which files are skipped."""

    columns: pl.Schema
    stats: tuple[str, ...]
    dictionary: frozenset[str]
    """Columns of few distinct values. Other strings are written plain: trying a dictionary on ids costs more than it saves."""
    partition: str | None = None
    grows: bool = False
    """Whether columns that are not in ``columns`` are added to the table."""


@dataclass(slots=True)
class AppendTable:
    """Opened with ``open_table``. Not thread-safe. One writer: what another one commits makes the next call fail.

    ``version`` is the journal ordinal through which rows are committed and durable; 0 at first. Methods raise ``StorageError``.
    """

    url: str
    spec: TableSpec
    options: dict[str, str]
    version: int
    _table: DeltaTable
    _names: dict[str, str]
    """Logical column name -> name in the table."""
    _synced: int
    """Newest Delta version known to be on the medium."""
    _attempted: int | None = None
    """``through`` of an append whose outcome is not known."""
    _foreign: bool = False
    """Somebody else wrote. What is in the table then is for a new start to find out."""
    _refused: set[str] = field(default_factory=set)
    _vacuumed: float = float("-inf")

    def append(self, rows: pl.DataFrame, through: int) -> None:
        """Commit ``rows``: all there are after ``version`` up to and including journal ordinal ``through``. All or nothing.

        After an error call ``settle`` before trying again: the commit may have happened.
        """
        with storage_errors(self.url):
            self._widen(rows.schema)
            adds = [self._add(day, part, data_change=True) for day, part in self._partitions(self._conform(rows))]
            self._attempted = through
            try:
                self._commit(adds, CommitProperties(app_transactions=[Transaction(APP_ID, through)]))
            except CommitFailedError as error:
                self._foreign = True
                raise StorageError(self._another_writer(_first_line(error))) from error
        self.settle()

    def settle(self) -> int:
        """Find out what became of the last append, make it durable, and give ``version``."""
        if self._foreign:
            raise StorageError(self._another_writer("as found before"))
        if self._attempted is not None:
            with storage_errors(self.url):
                self._refresh((self.version, self._attempted))
                self._sync_log()
            self.version, self._attempted = self._table.transaction_version(APP_ID) or 0, None
        return self.version

    def maintain(self) -> None:
        """Join small files, at most ``MAX_JOINS`` times ``SMALL_FILE`` bytes; every ``VACUUM_SECONDS`` delete what nothing refers to.

        Files that were joined or never committed stay for a day, for readers that still use them.
        """
        self.settle()
        with storage_errors(self.url):
            self._refresh((self.version,))
            for day, small in self._fragments():
                self._join(day, small)
            if time.monotonic() - self._vacuumed >= VACUUM_SECONDS:
                self._table.vacuum(dry_run=False, full=True)
                self._vacuumed = time.monotonic()
            self._refresh((self.version,))
            self._sync_log()

    def _commit(self, actions: Sequence[AddAction | RemoveAction], properties: CommitProperties) -> None:
        partition = [self.spec.partition] if self.spec.partition else None
        self._table.create_write_transaction(list(actions), "append", self._table.schema(), partition, commit_properties=properties)

    def _refresh(self, expected: tuple[int, ...]) -> None:
        self._table.update_incremental()
        found = self._table.transaction_version(APP_ID) or 0
        if found not in expected:
            self._foreign = True
            raise StorageError(self._another_writer(f"through journal record {found}"))

    def _another_writer(self, how: str) -> str:
        return f"{self.url}: another process wrote to it ({how}): only one engine may write evidence; stop the other and restart this one"

    def _sync_log(self) -> None:
        if root := local_path(self.url):
            newest = self._table.version()
            for version in range(self._synced + 1, newest + 1):
                commit = root / "_delta_log" / f"{version:020d}.json"
                if commit.exists():  # the library removes commits that a checkpoint of its own covers
                    sync(commit)
            sync(root / "_delta_log")
            self._synced = newest

    def _widen(self, schema: pl.Schema) -> None:
        taken = {name.casefold() for name in self._names.values()}
        added: dict[str, Field] = {}
        for name, dtype in schema.items():
            if name in self._names or name in self._refused:
                continue
            stored, kind = stored_name(name, taken), delta_type(dtype)
            if self.spec.grows and kind and len(self._names) + len(added) < len(self.spec.columns) + MAX_EXTRA_COLUMNS:
                added[name] = Field(stored, kind)
                taken.add(stored.casefold())
            elif len(self._refused) < MAX_EXTRA_COLUMNS:
                self._refused.add(name)
                _log.warning("%s: column %.100r (%s) is not kept", self.url, name, dtype)
        if added:
            self._table.alter.add_columns(list(added.values()))
            self._refresh((self.version,))
            self._names |= {name: column.name for name, column in added.items()}

    def _conform(self, rows: pl.DataFrame) -> pl.DataFrame:
        types = pl.Schema(self._table.schema())
        kept = {name: self._names[name] for name in rows.columns if name in self._names}
        return rows.select(pl.col(name).cast(types[stored], strict=False).alias(stored) for name, stored in kept.items())

    def _partitions(self, rows: pl.DataFrame) -> list[tuple[date | None, pl.DataFrame]]:
        if rows.is_empty():
            return []
        if self.spec.partition is None:
            return [(None, rows)]
        days = rows[self.spec.partition]
        if days.min() == days.max():  # nearly always; partition_by would copy every value
            return [(days[0], rows.drop(self.spec.partition))]
        parts = rows.partition_by(self.spec.partition, as_dict=True, include_key=False, maintain_order=True)
        return [(key[0], part) for key, part in parts.items()]

    def _add(self, day: date | None, rows: pl.DataFrame, *, data_change: bool) -> AddAction:
        path = f"{self.spec.partition}={day}/{uuid.uuid4()}.parquet" if day else f"{uuid.uuid4()}.parquet"
        size = self._write(path, rows)
        bounds = rows.select(self.spec.stats)
        stats = {
            "numRecords": rows.height,
            "minValues": bounds.min().row(0, named=True),
            "maxValues": bounds.max().row(0, named=True),
            "nullCount": bounds.null_count().row(0, named=True),
        }
        return AddAction(path, size, self._partition_values(day), time.time_ns() // 1_000_000, data_change, json.dumps(stats))

    def _partition_values(self, day: date | None) -> dict[str, str | None]:
        return {self.spec.partition: str(day)} if self.spec.partition else {}

    def _write(self, path: str, rows: pl.DataFrame) -> int:
        """Write one file and give its size in bytes; on a local disk it is durable then."""
        options: dict[str, Any] = {
            "compression": "zstd",
            "compression_level": 1,
            "use_dictionary": [name for name in rows.columns if name in self.spec.dictionary],
            "write_statistics": list(self.spec.stats),
            "row_group_size": ROW_GROUP,
            "store_schema": False,  # Arrow's own note that these were string views would bother readers that have none
        }
        table = pa.table(rows)
        root = local_path(self.url)
        if root is None:
            with PyFileSystem(DeltaStorageHandler(self.url, self.options)).open_output_stream(path) as stream:
                pq.write_table(table, stream, **options)
                return int(stream.tell())
        target = root / path
        target.parent.mkdir(exist_ok=True)
        pq.write_table(table, target, **options)
        for place in (target, target.parent, root):
            sync(place)
        return target.stat().st_size

    def _fragments(self) -> list[tuple[date | None, pl.DataFrame]]:
        """Per file to write: its partition, and the small files (``path``, ``size_bytes``) it replaces."""
        files = pl.DataFrame(self._table.get_add_actions(flatten=True)).filter(pl.col("size_bytes") < SMALL_FILE)
        day = pl.col(f"partition.{self.spec.partition}") if self.spec.partition else pl.lit(None, dtype=pl.Date)
        files = files.select(day.alias("day"), "path", "size_bytes", "modification_time").sort("day", "modification_time", "path")
        joins: list[tuple[date | None, pl.DataFrame]] = []
        for small in files.partition_by("day", maintain_order=True):
            if small.height >= MIN_SMALL_FILES:
                numbered = small.with_columns(join=pl.col("size_bytes").cum_sum() // SMALL_FILE)
                joins += [(part["day"][0], part) for part in numbered.partition_by("join", maintain_order=True) if part.height > 1]
        return joins[:MAX_JOINS]

    def _join(self, day: date | None, small: pl.DataFrame) -> None:
        paths = [f"{self._table.table_uri.rstrip('/')}/{path}" for path in small["path"]]
        rows = pl.scan_parquet(
            paths, storage_options=self.options or None, missing_columns="insert", schema=self._file_schema(), hive_partitioning=False
        ).collect()
        now = time.time_ns() // 1_000_000
        gone = [
            RemoveAction(path, data_change=False, deletion_timestamp=now, size=size, partition_values=self._partition_values(day))
            for path, size in small.select("path", "size_bytes").iter_rows()
        ]
        # No retry: the library would repeat the commit on top of one that joined the same files, and double their rows.
        self._commit([self._add(day, rows, data_change=False), *gone], CommitProperties(max_commit_retries=0))
        self._refresh((self.version,))

    def _file_schema(self) -> pl.Schema:
        schema = pl.Schema(self._table.schema())
        return pl.Schema({name: dtype for name, dtype in schema.items() if name != self.spec.partition})


def open_table(url: str, spec: TableSpec, options: Mapping[str, str]) -> AppendTable:
    """Open for appending; create it when there is none. Raises ``StorageError``."""
    with storage_errors(url):
        if root := local_path(url):
            root.mkdir(parents=True, exist_ok=True)
            _set_torn_aside(root)
        if not DeltaTable.is_deltatable(url, dict(options)):
            _create(url, spec, dict(options))
        table = read_table(url, options)
        names = {logical_name(column.name): column.name for column in table.schema().fields}
        opened = AppendTable(url, spec, dict(options), table.transaction_version(APP_ID) or 0, table, names, table.version() - 1)
        missing = pl.Schema({name: dtype for name, dtype in spec.columns.items() if name not in names})
        if missing:
            table.alter.add_columns([Field(stored_name(name, ()), delta_type(dtype)) for name, dtype in missing.items()])
            opened._names |= {name: stored_name(name, ()) for name in missing}
            opened._refresh((opened.version,))
        opened._sync_log()
        return opened


def read_table(url: str, options: Mapping[str, str]) -> DeltaTable:
    """What is committed now. Raises ``StorageError``, also for a format that this version does not know."""
    with storage_errors(url):
        table = DeltaTable(url, storage_options=dict(options))
        found = table.metadata().configuration.get(_FORMAT_KEY)
        if found != FORMAT:
            raise StorageError(f"{url}: evidence format {found or 'unknown'}; this version of otel_ir knows format {FORMAT}")
        return table


def _create(url: str, spec: TableSpec, options: dict[str, str]) -> None:
    configuration = {
        "delta.appendOnly": "true",
        "delta.dataSkippingStatsColumns": ",".join(f"`{name}`" for name in spec.stats),
        "delta.deletedFileRetentionDuration": _KEEP,
        "delta.logRetentionDuration": _KEEP,
        _FORMAT_KEY: FORMAT,
    }
    DeltaTable.create(
        url,
        Schema([Field(stored_name(name, ()), delta_type(dtype)) for name, dtype in spec.columns.items()]),
        mode="ignore",
        partition_by=[spec.partition] if spec.partition else None,
        configuration=configuration,
        storage_options=options,
        raise_if_key_not_exists=False,  # our own key is none of Delta's
    )


def local_path(url: str) -> Path | None:
    """The directory of a local table; ``None`` for an object store."""
    if url.startswith("file://"):
        return Path(url.removeprefix("file://"))
    return None if "://" in url else Path(url)


def _set_torn_aside(root: Path) -> None:
    """Rename the newest commit when a power cut left it half written: it was never reported as durable, so its rows come again."""
    commits = sorted((root / "_delta_log").glob("[0-9]" * 20 + ".json"))
    if not commits:
        return
    try:
        lines = commits[-1].read_bytes().splitlines()
        whole = bool(lines) and all(isinstance(json.loads(line), dict) for line in lines)
    except ValueError:
        whole = False
    if not whole:
        _log.warning("%s was torn by a crash: set aside; its rows are written again", commits[-1])
        commits[-1].rename(commits[-1].with_suffix(".torn"))


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Whatever the libraries raise inside leaves as ``StorageError``, in one line."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:  # the Delta library raises bare Exception for some faults of storage and of schemas
        raise StorageError(f"{url}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
