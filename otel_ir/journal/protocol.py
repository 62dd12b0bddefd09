"""What a journal is, and what an operator may set about the embedded one."""

from __future__ import annotations

from typing import Annotated, Protocol

import msgspec

from otel_ir.errors import ConfigError
from otel_ir.model import Record, RecordKind

_MIB = 1024 * 1024
_GIB = 1024 * _MIB

Positive = Annotated[int, msgspec.Meta(ge=1)]


class Journal(Protocol):
    """An append-only, ordered, durable log of records. Ordinals count from 1 without holes."""

    async def append(self, kind: RecordKind, body: bytes, *, tenant: str = "", sender: str = "") -> int:
        """Ordinal of the record, once it is durable.

        Raises ``Overloaded`` (nothing was taken, try again later), ``StorageError`` (it could not be made durable) or
        ``InputError`` (too large, ever). A cancelled append may or may not be in the journal: delivery is at least once.
        """
        ...

    def read(self, after: int, *, max_records: int, max_bytes: int) -> list[Record]:
        """Durable records with ordinals from ``after + 1`` on, in order, without holes; ``[]`` when there is none yet.

        ``max_bytes`` bounds the sum of the bodies; one record is returned even when it alone is larger. Thread-safe.
        Raises ``StorageError`` when ``after + 1`` was dropped by retention already (read from ``first - 1`` instead), or is damaged.
        """
        ...

    def wait(self, after: int, timeout: float) -> bool:
        """Block up to ``timeout`` seconds; True when a record with an ordinal greater than ``after`` can be read. Thread-safe."""
        ...

    @property
    def last(self) -> int:
        """Newest durable ordinal, 0 when there never was one."""
        ...

    @property
    def first(self) -> int:
        """Oldest retained ordinal, 0 when no record is retained."""
        ...

    @property
    def fault(self) -> str | None:
        """Why writes are refused at present, ``None`` when they are taken."""
        ...

    def retain(self, upto: int) -> None:
        """All consumers are done with ordinals ``<= upto``: these may be dropped, by the limits of age and size."""
        ...

    async def close(self) -> None:
        """Make durable what was taken, then release everything. Idempotent."""
        ...


class Meter(Protocol):
    """What the journal measures itself with; ``otel_ir.telemetry.Telemetry`` is one."""

    def add(self, name: str, value: int = 1, **attributes: str) -> None:
        """Raise the counter ``name``."""
        ...

    def record(self, name: str, value: float, **attributes: str) -> None:
        """Add one measurement to the histogram ``name``."""
        ...


class NoMeter:
    """Measures nothing."""

    def add(self, name: str, value: int = 1, **attributes: str) -> None:
        """Do nothing."""

    def record(self, name: str, value: float, **attributes: str) -> None:
        """Do nothing."""


class JournalConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits of the embedded journal, in bytes, seconds and records."""

    segment_bytes: Positive = 64 * _MIB
    """A segment that reached this size is followed by a new one."""
    segment_seconds: Positive = 3600
    """So is one that is this old, so that retention by age has something to drop."""
    retain_bytes: Positive = 2 * _GIB
    """Segments that all consumers are done with are dropped, oldest first, while the journal is larger than this."""
    retain_seconds: Positive = 24 * 3600
    """Segments that all consumers are done with are dropped when their newest record is older than this."""
    max_bytes: Positive = 8 * _GIB
    """Hard bound: beyond it appends are refused (``Overloaded``) until consumers catch up. Nothing unread is ever dropped."""
    max_record_bytes: Positive = 64 * _MIB
    """Largest body of one record."""
    pending_records: Positive = 8192
    """Appends that may wait for their sync."""
    pending_bytes: Positive = 128 * _MIB
    """Bytes that may wait for their sync."""
    group_records: Positive = 1024
    """Records written and synced together."""
    group_bytes: Positive = 8 * _MIB
    """Bytes written and synced together (one record may be larger)."""

    def check(self) -> None:
        """Raises ``ConfigError`` when the limits contradict each other."""
        if self.retain_bytes + self.segment_bytes > self.max_bytes:
            raise ConfigError(
                f"journal: max_bytes ({self.max_bytes}) must be at least retain_bytes + segment_bytes "
                f"({self.retain_bytes + self.segment_bytes}), or nothing could ever be dropped in time"
            )
        if self.max_record_bytes > self.pending_bytes:
            raise ConfigError(f"journal: pending_bytes ({self.pending_bytes}) must be at least max_record_bytes ({self.max_record_bytes})")
