"""Frames: how a record lies on disk.

The framing is TFRecord (length u64 LE, masked CRC-32C of the length, data, masked CRC-32C of the data; source: TensorFlow,
``core/lib/io/record_writer.h``), the data is a MessagePack map. docs/journal.md describes both for a reader that is not us.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import google_crc32c
import msgspec

from otel_ir.model import RecordKind

FORMAT = "otel_ir.journal"
VERSION = 1

_HEAD = struct.Struct("<QI")
_TAIL = struct.Struct("<I")
OVERHEAD = _HEAD.size + _TAIL.size
"""Bytes of framing around the data of a frame."""

_MASK_DELTA = 0xA282EAD8
_U32 = 0xFFFFFFFF
_CHUNK = 1 << 16
_MAP_ENTRY = b"\x87\xa1o"
"""How the data of every ``Entry`` begins: a map of seven, whose first key is ``o``."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """First frame of a segment. ``first`` is its first ordinal; ``created`` and ``received`` (newest before it) are Unix nanoseconds."""

    format: str
    version: int
    first: int
    created: int
    received: int


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A record as it lies in a frame: ordinal, kind, received, committed, tenant, sender, body.

    ``c`` is the newest ordinal that was durable when this frame was written. It tells a torn write from damage: a broken
    frame may be cut away exactly when no later frame claims that it was durable.
    """

    o: int
    k: RecordKind
    r: int
    c: int
    t: str
    s: str
    b: bytes


class DamagedError(ValueError):
    """The bytes at ``offset`` are not a whole, valid frame. Never leaves this package."""

    def __init__(self, offset: int, reason: str) -> None:
        self.offset, self.reason = offset, reason
        super().__init__(f"{reason} at byte {offset}")


_encoder = msgspec.msgpack.Encoder()
_entry_decoder = msgspec.msgpack.Decoder(Entry)
_header_decoder = msgspec.msgpack.Decoder(Header)


def masked_crc(data: bytes) -> int:
    """CRC-32C of ``data``, rotated and shifted as TFRecord does, so that a CRC over data with CRCs in it stays a good one."""
    crc = int(google_crc32c.value(data))
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & _U32


def encode(item: Header | Entry) -> tuple[bytes, bytes, bytes]:
    """The three buffers of a frame: head, data, tail."""
    data = _encoder.encode(item)
    length = len(data).to_bytes(8, "little")
    return length + _TAIL.pack(masked_crc(length)), data, _TAIL.pack(masked_crc(data))


def decode_entry(data: bytes, offset: int) -> Entry:
    """Raises ``DamagedError``."""
    try:
        return _entry_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DamagedError(offset, f"not a record ({error})") from None


def decode_header(data: bytes) -> Header:
    """Raises ``DamagedError``."""
    try:
        return _header_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DamagedError(0, f"not a segment header ({error})") from None


def frames(fd: int, offset: int, end: int, *, chunk: int = _CHUNK) -> Iterator[tuple[int, bytes]]:
    """``(offset after the frame, its data)`` for each frame in ``[offset, end)`` of the file, in pieces of about ``chunk`` bytes.

    Raises ``DamagedError`` at the first frame that is not whole and valid. No length is trusted before its checksum
    holds and it fits before ``end``, so memory is bounded by the file.
    """
    buffer, base = b"", offset
    while offset < end:
        need = OVERHEAD
        if offset + need <= base + len(buffer):
            need += _length(buffer, offset - base, offset)
        if offset + need > base + len(buffer):
            if offset + need > end:
                raise DamagedError(offset, "frame cut short")
            buffer, base = os.pread(fd, min(end - offset, max(need, chunk)), offset), offset
            if len(buffer) < need:
                raise DamagedError(offset, "frame cut short")
            continue
        start = offset - base + _HEAD.size
        data = buffer[start : start + need - OVERHEAD]
        if _TAIL.unpack_from(buffer, start + len(data))[0] != masked_crc(data):
            raise DamagedError(offset, "checksum of the data does not hold")
        offset += need
        yield offset, data


def _length(buffer: bytes, position: int, offset: int) -> int:
    length, crc = _HEAD.unpack_from(buffer, position)
    if crc != masked_crc(buffer[position : position + 8]):
        raise DamagedError(offset, "checksum of the length does not hold")
    return int(length)


def durable_after(fd: int, offset: int, end: int, ordinal: int) -> int | None:
    """Offset of a valid frame behind ``offset`` which proves that record ``ordinal`` was durable, if there is one.

    Pages of one unsynced write reach the disk in any order, so valid frames behind a broken one prove nothing by
    themselves; a frame written after the sync of ``ordinal`` does (``Entry.c``).
    """
    window, overlap = 1 << 22, len(_MAP_ENTRY) + _HEAD.size
    while offset < end:
        buffer = os.pread(fd, min(window, end - offset), offset)
        at = buffer.find(_MAP_ENTRY, _HEAD.size)
        while at >= 0:
            entry = _entry_at(fd, offset + at - _HEAD.size, end)
            if entry is not None and entry.c >= ordinal:
                return offset + at - _HEAD.size
            at = buffer.find(_MAP_ENTRY, at + 1)
        if len(buffer) <= overlap or offset + len(buffer) >= end:
            return None
        offset += len(buffer) - overlap
    return None


def _entry_at(fd: int, offset: int, end: int) -> Entry | None:
    try:
        for _, data in frames(fd, offset, end, chunk=OVERHEAD):
            return decode_entry(data, offset)
    except DamagedError:
        pass
    return None
