"""The newest records of a journal that another process may be writing: read only, without its lock, changing nothing."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from otel_ir.errors import StorageError
from otel_ir.journal.frames import DamagedError, decode_entry, frames
from otel_ir.journal.segment import SUFFIX, opened
from otel_ir.model import Record

_CHUNK = 1 << 20


def newest_records(directory: Path, max_bytes: int) -> list[Record]:
    """Records of the newest segments, about ``max_bytes`` of bodies in all, in order. A tail that is still being written is left out.

    Empty where there is no journal. Raises ``StorageError`` for a record in the middle that is damaged.
    """
    paths = sorted(directory.glob(f"*{SUFFIX}"))
    found: list[Record] = []
    for path in reversed(paths):
        if max_bytes <= 0:
            break
        part = _tail(path, max_bytes, newest=path == paths[-1])
        max_bytes -= sum(len(record.body) for record in part)
        found[:0] = part
    for before, after in pairwise(found):
        if after.ordinal != before.ordinal + 1:
            raise StorageError(f"{directory}: record {after.ordinal} follows record {before.ordinal}")
    return found


def _tail(path: Path, max_bytes: int, *, newest: bool) -> list[Record]:
    kept: list[Record] = []
    size = first = 0
    with opened(path) as fd:
        try:
            for number, (end, data) in enumerate(frames(fd, 0, path.stat().st_size, chunk=_CHUNK)):
                if not number:
                    continue  # the header
                entry = decode_entry(data, end)
                kept.append(Record(ordinal=entry.o, kind=entry.k, received=entry.r, body=entry.b, tenant=entry.t, sender=entry.s))
                size += len(entry.b)
                while size > max_bytes and first < len(kept) - 1:
                    size -= len(kept[first].body)
                    first += 1
                if first > 4096:
                    kept, first = kept[first:], 0
        except DamagedError as error:
            if not newest:
                raise StorageError(f"{path}: offset {error.offset}: {error.reason}") from None
    return kept[first:]
