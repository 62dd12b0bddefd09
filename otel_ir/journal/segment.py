"""A segment: one file of frames, named after the first ordinal in it."""

from __future__ import annotations

import bisect
import itertools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from otel_ir.errors import StorageError
from otel_ir.journal.disk import Disk
from otel_ir.journal.frames import FORMAT, VERSION, DamagedError, Entry, Header, decode_entry, decode_header, durable_after, encode, frames
from otel_ir.model import Record

SUFFIX = ".tfrecord"
_DRAFT = ".draft"
_STRIDE = 1 << 20
_READ_CHUNK = 1 << 20

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Segment:
    """What is known of a segment: ``[start, end)`` are the bytes of its durable records ``first … last`` (``last = first - 1``: none).

    ``size`` is what it takes on disk. ``marks`` is a sparse index: (ordinal, offset) about every MiB, as far as it was read or written.
    """

    path: Path
    first: int
    last: int
    start: int
    end: int
    created: int
    received: int
    size: int = 0
    marks: list[tuple[int, int]] = field(default_factory=list)

    def mark(self, ordinal: int, offset: int) -> None:
        """Note where a record begins, when the last note is far enough away."""
        if not self.marks or (ordinal > self.marks[-1][0] and offset - self.marks[-1][1] >= _STRIDE):
            self.marks.append((ordinal, offset))

    def nearest(self, ordinal: int) -> tuple[int, int]:
        """The last noted (ordinal, offset) at or before ``ordinal``."""
        at = bisect.bisect_right(self.marks, ordinal, key=lambda mark: mark[0]) - 1
        return self.marks[at] if at >= 0 else (self.first, self.start)


def create(disk: Disk, directory: Path, header: Header) -> tuple[Segment, int]:
    """A new segment with a durable header and a durable name, and the descriptor to write to it.

    It appears under its name only when it is whole, in place of what a failed write may have left there. Raises ``OSError``.
    """
    path = directory / f"{header.first:020d}{SUFFIX}"
    draft = path.with_suffix(_DRAFT)
    buffers = encode(header)
    fd = disk.create(draft)
    try:
        disk.write(fd, buffers, 0)
        disk.sync(fd)
        disk.publish(draft, path)
    except BaseException:
        os.close(fd)
        draft.unlink(missing_ok=True)
        raise
    size = sum(map(len, buffers))
    segment = Segment(path, header.first, header.first - 1, size, size, header.created, header.received, size=size)
    segment.mark(segment.first, size)
    return segment, fd


def load(directory: Path) -> list[Segment]:
    """All segments of the directory, oldest first, as their headers and names describe them; the newest is still to be ``recover``ed.

    Raises ``StorageError`` for a header that is damaged or of another format or version.
    """
    for draft in directory.glob(f"*{_DRAFT}"):
        draft.unlink()
    segments = [_head(path) for path in sorted(directory.glob(f"*{SUFFIX}"))]
    for older, newer in itertools.pairwise(segments):
        if newer.first <= older.first:
            raise StorageError(f"{newer.path}: its first ordinal does not follow that of {older.path.name}")
        older.last, older.received, older.end = newer.first - 1, newer.received, older.size
    return segments


def _head(path: Path) -> Segment:
    with opened(path) as fd:
        size = os.fstat(fd).st_size
        try:
            start, data = next(frames(fd, 0, size), (0, b""))
            header = decode_header(data)
        except DamagedError as error:
            raise StorageError(f"{path}: offset {error.offset}: damaged segment header: {error.reason}") from None
    if header.format != FORMAT or header.version != VERSION:
        raise StorageError(
            f"{path}: is {header.format} version {header.version}, this program reads {FORMAT} version {VERSION}; "
            "use the program that wrote it, or move the directory away"
        )
    if path.stem != f"{header.first:020d}":
        raise StorageError(f"{path}: is named after ordinal {path.stem}, but begins with {header.first}")
    return Segment(path, header.first, header.first - 1, start, start, header.created, header.received, size=size)


def recover(disk: Disk, segment: Segment) -> int:
    """Find the end of the newest segment, cut a torn tail away, make sure that all of it is durable; the descriptor to go on writing.

    Raises ``StorageError`` when a record that was durable once is damaged, ``OSError``.
    """
    fd = os.open(segment.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        torn = _scan(fd, segment)
        if torn is not None:
            proof = durable_after(fd, segment.end, segment.size, segment.last + 1)
            if proof is not None:
                raise StorageError(
                    f"{segment.path}: offset {segment.end}: damaged record {segment.last + 1}: {torn}; it was durable once "
                    f"(the frame at offset {proof} was written later), so it is not cut away"
                )
            logger.warning(
                "%s: cut at offset %d, %d bytes of an unfinished write: %s", segment.path, segment.end, segment.size - segment.end, torn
            )
            disk.truncate(fd, segment.end)
            segment.size = segment.end
        disk.sync(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _scan(fd: int, segment: Segment) -> str | None:
    try:
        for end, data in frames(fd, segment.start, segment.size, chunk=_READ_CHUNK):
            entry = decode_entry(data, segment.end)
            if entry.o != segment.last + 1:
                return f"has ordinal {entry.o}"
            segment.mark(entry.o, segment.end)
            segment.last, segment.end, segment.received = entry.o, end, entry.r
    except DamagedError as error:
        return error.reason
    return None


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor for reading. Raises ``StorageError`` when there is no such file any more."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise StorageError(f"{path}: no longer retained") from None
    try:
        yield fd
    finally:
        os.close(fd)


def records(
    segment: Segment, start: tuple[int, int], wanted: int, *, max_records: int, max_bytes: int
) -> tuple[list[Record], list[tuple[int, int]]]:
    """Records from ordinal ``wanted`` on within this segment, and where the frames passed on the way begin (the last: where to go on).

    ``start`` is an (ordinal, offset) at or before it; at least one record comes back, whatever ``max_bytes`` is.
    Raises ``StorageError`` naming file and offset.
    """
    found: list[Record] = []
    (ordinal, offset), size, last, end = start, 0, segment.last, segment.end
    passed = [start]
    with opened(segment.path) as fd:
        try:
            for after, data in frames(fd, offset, end, chunk=min(max(max_bytes, 1 << 16), _READ_CHUNK)):
                entry = decode_entry(data, offset)
                if entry.o != ordinal:
                    raise DamagedError(offset, f"has ordinal {entry.o} where {ordinal} belongs")
                if ordinal >= wanted:
                    size += len(entry.b)
                    if found and size > max_bytes:
                        break
                    found.append(_record(entry))
                ordinal, offset = ordinal + 1, after
                passed.append((ordinal, offset))
                if ordinal > last or len(found) == max_records or size >= max_bytes:
                    break
            else:
                raise DamagedError(offset, f"ends before record {last}")
        except DamagedError as error:
            raise StorageError(f"{segment.path}: offset {error.offset}: damaged record {ordinal}: {error.reason}") from None
    return found, passed


def _record(entry: Entry) -> Record:
    return Record(ordinal=entry.o, kind=entry.k, received=entry.r, body=entry.b, tenant=entry.t, sender=entry.s)
