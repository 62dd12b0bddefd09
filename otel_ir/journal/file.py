"""The embedded journal: segments of checksummed frames in one directory, group commit by one thread."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from otel_ir.errors import InputError, OtelIrError, Overloaded, StorageError
from otel_ir.journal import segment as segments
from otel_ir.journal.disk import FULL, Disk, lock
from otel_ir.journal.frames import FORMAT, OVERHEAD, VERSION, Entry, Header, encode
from otel_ir.journal.protocol import JournalConfig, Meter, NoMeter
from otel_ir.journal.segment import Segment
from otel_ir.model import Record, RecordKind

_ENTRY_OVERHEAD = OVERHEAD + 64
"""Upper bound of what a frame adds to body, tenant and sender: framing, seven keys, three integers, four lengths."""
_CONTROL_RESERVE = 16 * 1024 * 1024
"""Beyond ``max_bytes``, for control records only: what containment did must be recorded even while telemetry is refused."""
_CURSORS = 32
"""Places that readers stopped at and are expected to go on from."""
_FAULT_SECONDS = 5.0
"""How long a failed write counts as a fault when no later one tells better; then the next writer is let through to try."""
_PROBE = 1024 * 1024
"""Size of the request that ``fault`` imagines: a journal that only has room for less is full."""
_SECOND = 1_000_000_000

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Pending:
    """An append that waits for its sync."""

    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[int]
    kind: RecordKind
    body: bytes
    tenant: str
    sender: str
    received: int
    size: int


class FileJournal:
    """A ``Journal`` in a directory of its own. Appends may come from any event loop; everything else from any thread.

    One thread writes: it takes what is pending, writes it with one call, syncs, and only then publishes the records to
    readers and acknowledges them. After a failed write or sync the file is never written again: the next group goes
    to a fresh segment, because after a failed sync the kernel may have marked lost pages as clean (see fsync(2), and the
    PostgreSQL "fsyncgate" of 2018).
    """

    def __init__(self, directory: Path, config: JournalConfig, clock: Callable[[], int], disk: Disk, meter: Meter) -> None:
        """Use ``FileJournal.open``."""
        self._directory, self._config, self._clock, self._disk, self._meter = directory, config, clock, disk, meter
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._readable = threading.Condition(self._lock)
        self._pending: deque[_Pending] = deque()
        self._pending_bytes = 0
        self._cursors: OrderedDict[int, int] = OrderedDict()
        self._retained_upto = 0
        self._closing = False
        self._failed: tuple[float, str] | None = None
        self._lock_fd = lock(directory)
        self._fd: int | None = None
        self._thread = threading.Thread(target=self._run, name="journal-commit", daemon=True)

    @classmethod
    def open(
        cls,
        directory: Path,
        config: JournalConfig | None = None,
        *,
        clock: Callable[[], int] = time.time_ns,
        disk: Disk | None = None,
        meter: Meter | None = None,
    ) -> FileJournal:
        """Open or create the journal in ``directory``; what a crash left unfinished is cut away and logged.

        ``clock`` gives Unix nanoseconds. Raises ``ConfigError`` for contradictory limits and ``StorageError`` when the directory
        is in use, cannot be written, was written by another version, or has damage that is more than an unfinished write.
        """
        config, disk = config or JournalConfig(), disk or Disk()
        config.check()
        try:
            if not directory.is_dir():
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                disk.sync_directory(directory.parent)
            journal = cls(directory, config, clock, disk, meter or NoMeter())
        except OSError as error:
            raise StorageError(f"{directory}: the journal cannot be opened: {error}") from error
        try:
            journal._load()
        except BaseException as error:
            journal._release()
            if isinstance(error, OSError):
                raise StorageError(f"{directory}: the journal cannot be opened: {error}") from error
            raise
        journal._thread.start()
        return journal

    def _load(self) -> None:
        self._segments = segments.load(self._directory)
        if self._segments:
            self._fd = segments.recover(self._disk, self._segments[-1])
            self._last, self._received = self._segments[-1].last, self._segments[-1].received
        else:
            self._last, self._received = 0, 0
            self._roll()
        self._size = sum(segment.size for segment in self._segments)

    # Appending.

    async def append(self, kind: RecordKind, body: bytes, *, tenant: str = "", sender: str = "") -> int:
        """See ``Journal.append``."""
        size = len(body) + len(tenant.encode()) + len(sender.encode()) + _ENTRY_OVERHEAD
        if len(body) > self._config.max_record_bytes:
            raise InputError(f"a record of {len(body)} bytes is larger than the journal takes ({self._config.max_record_bytes})")
        loop = asyncio.get_running_loop()
        pending = _Pending(loop, loop.create_future(), kind, body, tenant, sender, self._clock(), size)
        try:
            with self._lock:
                self._admit(kind, size)
                self._pending.append(pending)
                self._pending_bytes += size
                self._work.notify()
        except Overloaded:
            self._meter.add("otel_ir.journal.refused")
            raise
        return await pending.future

    def _admit(self, kind: RecordKind, size: int) -> None:
        if self._closing:
            raise StorageError(f"{self._directory}: the journal is closed")
        config = self._config
        if self._pending_bytes and (len(self._pending) >= config.pending_records or self._pending_bytes + size > config.pending_bytes):
            raise Overloaded("the journal has as many records waiting for the disk as it may hold")
        if self._size + self._pending_bytes + size > config.max_bytes + (_CONTROL_RESERVE if kind == "control" else 0):
            raise Overloaded(f"the journal has reached its {config.max_bytes} bytes and its consumers have not caught up", retry_after=5.0)

    def _run(self) -> None:
        while group := self._take():
            began = time.perf_counter()
            try:
                ordinals = self._commit(group)
            except OSError as error:
                self._abandon(group, error)
            except Exception as error:
                logger.exception("the journal failed to write a group of %d records", len(group))
                self._abandon(group, error)
            else:
                _settle(group, ordinals)
                self._meter.record("otel_ir.journal.sync.duration", time.perf_counter() - began)
                for kind, count in Counter(item.kind for item in group).items():
                    self._meter.add("otel_ir.journal.records", count, kind=kind)

    def _take(self) -> list[_Pending]:
        """The next group; empty when the journal is closed and everything is written."""
        with self._lock:
            while not self._pending and not self._closing:
                self._work.wait()
            group: list[_Pending] = []
            size = 0
            while self._pending and len(group) < self._config.group_records:
                if group and size + self._pending[0].size > self._config.group_bytes:
                    break
                size += self._pending[0].size
                group.append(self._pending.popleft())
            return group

    def _commit(self, group: Sequence[_Pending]) -> range:
        """Write, sync, publish. Only this thread changes ``_fd`` and what lies behind ``end`` of the newest segment."""
        if self._fd is None or self._full(self._segments[-1]):
            self._roll()
        segment, fd = self._segments[-1], self._fd
        assert fd is not None
        buffers: list[bytes] = []
        offsets: list[int] = []
        offset, received = segment.end, self._received
        for ordinal, item in enumerate(group, self._last + 1):
            received = max(received, item.received)
            frame = encode(Entry(o=ordinal, k=item.kind, r=received, c=self._last, t=item.tenant, s=item.sender, b=item.body))
            buffers += frame
            offsets.append(offset)
            offset += sum(map(len, frame))
        self._disk.write(fd, buffers, segment.end)
        self._disk.sync(fd)
        return self._publish(segment, offsets, offset, received, group)

    def _publish(self, segment: Segment, offsets: list[int], end: int, received: int, group: Sequence[_Pending]) -> range:
        with self._lock:
            ordinals = range(self._last + 1, self._last + 1 + len(group))
            for ordinal, offset in zip(ordinals, offsets, strict=True):
                segment.mark(ordinal, offset)
            self._size += end - segment.size
            segment.last, segment.end, segment.size, segment.received = ordinals[-1], end, end, received
            self._last, self._received = ordinals[-1], received
            self._pending_bytes -= sum(item.size for item in group)
            self._failed = None
            self._readable.notify_all()
        return ordinals

    def _full(self, segment: Segment) -> bool:
        aged = self._clock() - segment.created > self._config.segment_seconds * _SECOND
        return segment.last >= segment.first and (segment.end >= self._config.segment_bytes or aged)

    def _roll(self) -> None:
        """Go on in a new segment, in place of the newest one when that has no record."""
        header = Header(format=FORMAT, version=VERSION, first=self._last + 1, created=self._clock(), received=self._received)
        fresh, fd = segments.create(self._disk, self._directory, header)
        if self._fd is not None:
            os.close(self._fd)
        self._fd = fd
        with self._lock:
            if self._segments and self._segments[-1].first == fresh.first:
                self._segments.pop()
            self._segments.append(fresh)
            self._cursors.pop(fresh.first, None)  # it pointed behind the last record of the segment before
            self._size = sum(segment.size for segment in self._segments)
        self._prune()

    def _abandon(self, group: Sequence[_Pending], error: Exception) -> None:
        """Nothing of the group is durable: cut off what is there of it, leave the file for good, tell the appenders."""
        segment = self._segments[-1]
        if self._fd is not None:
            try:
                self._disk.truncate(self._fd, segment.end)
            except OSError as second:
                # Harmless while the next segment gets its header: readers stop at the first ordinal of that one.
                logger.warning("%s: could not be cut to %d bytes after a failed write: %s", segment.path, segment.end, second)
            os.close(self._fd)
            self._fd = None
        full = isinstance(error, OSError) and error.errno in FULL
        reason = f"{self._directory}: {'no space for' if full else 'cannot write'} the journal: {error}"
        logger.error("%s; %d records were refused", reason, len(group))
        self._meter.add("otel_ir.journal.refused", len(group))
        with self._lock:
            self._pending_bytes -= sum(item.size for item in group)
            self._failed = (time.monotonic(), reason)
        _settle(group, lambda: Overloaded(reason, retry_after=_FAULT_SECONDS) if full else StorageError(reason))

    # Reading.

    def read(self, after: int, *, max_records: int, max_bytes: int) -> list[Record]:
        """See ``Journal.read``."""
        found: list[Record] = []
        size, wanted = 0, after + 1
        while len(found) < max_records and (not found or size < max_bytes):
            place = self._locate(wanted)
            if place is None:
                break
            segment, start = place
            some, passed = segments.records(segment, start, wanted, max_records=max_records - len(found), max_bytes=max_bytes - size)
            if found and size + len(some[0].body) > max_bytes:
                break
            self._remember(segment, passed)
            found += some
            size += sum(len(record.body) for record in some)
            wanted = found[-1].ordinal + 1
        return found

    def _locate(self, ordinal: int) -> tuple[Segment, tuple[int, int]] | None:
        """A snapshot of the segment that has the record, and the nearest (ordinal, offset) known before it."""
        with self._lock:
            if self._closing and not self._thread.is_alive():
                raise StorageError(f"{self._directory}: the journal is closed")
            if ordinal > self._last:
                return None
            if ordinal < self._segments[0].first:
                raise StorageError(f"{self._directory}: record {ordinal} is no longer retained, the oldest is {self._segments[0].first}")
            segment = next(one for one in reversed(self._segments) if one.first <= ordinal)
            offset = self._cursors.get(ordinal)
            start = (ordinal, offset) if offset is not None else segment.nearest(ordinal)
            return Segment(segment.path, segment.first, segment.last, segment.start, segment.end, segment.created, segment.received), start

    def _remember(self, snapshot: Segment, passed: list[tuple[int, int]]) -> None:
        with self._lock:
            segment = next((one for one in self._segments if one.path == snapshot.path), None)
            if segment is None:
                return
            for ordinal, offset in passed:
                segment.mark(ordinal, offset)
            ordinal, offset = passed[-1]
            if ordinal <= segment.last or segment is self._segments[-1]:
                self._cursors[ordinal] = offset
                self._cursors.move_to_end(ordinal)
                while len(self._cursors) > _CURSORS:
                    self._cursors.popitem(last=False)

    def wait(self, after: int, timeout: float) -> bool:
        """See ``Journal.wait``; returns early when the journal closes."""
        with self._lock:
            self._readable.wait_for(lambda: self._last > after or self._closing, timeout)
            return self._last > after

    @property
    def last(self) -> int:
        """See ``Journal.last``."""
        return self._last

    @property
    def first(self) -> int:
        """See ``Journal.first``."""
        with self._lock:
            first = self._segments[0].first
            return first if first <= self._last else 0

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self._size

    @property
    def fault(self) -> str | None:
        """See ``Journal.fault``. A failed write counts for five seconds, then the next append may try again."""
        with self._lock:
            try:
                self._admit("traces", min(_PROBE, self._config.segment_bytes))
            except OtelIrError as error:
                return str(error)
            if self._failed is not None and time.monotonic() - self._failed[0] < _FAULT_SECONDS:
                return self._failed[1]
            return None

    # Retention and closing.

    def retain(self, upto: int) -> None:
        """See ``Journal.retain``."""
        with self._lock:
            self._retained_upto = max(self._retained_upto, upto)
        self._prune()

    def _prune(self) -> None:
        """Drop oldest segments, done with, which are too old or too much; never the newest: it carries the count."""
        now, config = self._clock(), self._config
        with self._lock:
            while len(self._segments) > 1:
                oldest = self._segments[0]
                aged = now - oldest.received > config.retain_seconds * _SECOND
                if oldest.last > self._retained_upto or not (aged or self._size > config.retain_bytes):
                    return
                try:
                    oldest.path.unlink(missing_ok=True)
                except OSError as error:
                    logger.warning("%s: could not be dropped: %s", oldest.path, error)
                    return
                self._segments.pop(0)
                self._size -= oldest.size
                logger.info("%s: dropped (records %d to %d)", oldest.path, oldest.first, oldest.last)

    async def close(self) -> None:
        """See ``Journal.close``."""
        with self._lock:
            first_time, self._closing = not self._closing, True
            self._work.notify_all()
            self._readable.notify_all()
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
        if first_time:
            self._release()

    def _release(self) -> None:
        for fd in (self._fd, self._lock_fd):
            if fd is not None:
                os.close(fd)
        self._fd = None


def _settle(group: Sequence[_Pending], outcome: Sequence[int] | Callable[[], Exception]) -> None:
    """Resolve the futures of a group with their ordinals, or each with an exception of its own; one wake-up for each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[int], int | Exception]]] = {}
    for place, item in enumerate(group):
        by_loop.setdefault(item.loop, []).append((item.future, outcome() if callable(outcome) else outcome[place]))
    for loop, settled in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, settled)
        except RuntimeError:
            logger.info("the event loop of %d appends is gone", len(settled))


def _resolve(settled: list[tuple[asyncio.Future[int], int | Exception]]) -> None:
    for future, outcome in settled:
        if future.done():
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
