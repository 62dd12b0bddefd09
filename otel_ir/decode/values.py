"""Serialized ``AnyValue`` -> text, for the values that somebody asks for.

Text of a value: a string is itself, integers and booleans as in JSON, doubles as Python writes them, bytes in base64, arrays and
key-value lists as compact JSON; an empty ``AnyValue`` is null. Strings and integers, that is nearly everything, are read by
vector operations straight from the wire format; the rest, and every encoding a serializer would not have chosen, goes through
the protobuf runtime, value by value.
"""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

Index = NDArray[np.int64]
Places = NDArray[np.int32]
Bytes = NDArray[np.uint8]

# Tags of AnyValue's members (field number << 3 | wire type), common.proto.
_STRING_TAG, _INT_TAG = 0x0A, 0x18
_MAX_VARINT = 10
_FEW = 64
"""Up to so many values, one by one is quicker than a dozen vector operations."""
_MANY_OTHERS = 4
"""Where so many times more values are there than are asked for, these are copied; else all are laid out."""
# Largest whole value whose payload length still fits 1, 2, 3, 4 varint bytes, tag and length included.
_HEADER_STEPS = (2 + (1 << 7), 3 + (1 << 14), 4 + (1 << 21), 5 + (1 << 28))


def texts(values: pa.BinaryArray, take: Index) -> pl.Series:
    """The text of ``values[take]`` (String, null for an empty value), in that order."""
    size = len(take)
    if size == 0:
        return pl.Series(dtype=pl.String)
    if size <= _FEW:
        return pl.Series([any_text(values[index].as_py()) for index in take.tolist()], dtype=pl.String)
    if _MANY_OTHERS * size < len(values):
        values, take = values.take(pa.array(take)), np.arange(size)
    start, end, data = _layout(values)
    plain = _is_plain(start, end, data)[take]
    found = _utf8(_payloads(start, end, data)[pl.Series(take.astype(np.uint32) * 2 + 1)])
    # A receiver has refused invalid UTF-8 already; what comes here anyway is read by the runtime, with replacement characters.
    odd = np.flatnonzero(~plain) if found.null_count() == 0 else np.flatnonzero(~plain | found.is_null().to_numpy())
    if not len(odd):
        return found
    slots = np.arange(size, dtype=np.uint32)
    slots[odd] = size + np.arange(len(odd), dtype=np.uint32)
    return pl.concat([found, _odd_texts(values, take[odd], start, end, data)], rechunk=True)[pl.Series(slots)]


def _layout(values: pa.BinaryArray) -> tuple[Places, Places, Bytes]:
    """Where each value begins and ends, and the bytes of all."""
    _, offsets, content = values.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int32)[values.offset : values.offset + len(values) + 1]
    # One spare byte, so that the tag of an empty last value can be looked at.
    data = np.frombuffer(content, dtype=np.uint8) if content is not None and content.size else np.zeros(1, dtype=np.uint8)
    return bounds[:-1], bounds[1:], data


def _headers(total: Places) -> Places:
    """Bytes before the text, if the value is a string: the tag, and a minimal length prefix."""
    header = np.full(len(total), 2, dtype=np.int32)
    long = np.flatnonzero(total >= _HEADER_STEPS[0])
    for step in _HEADER_STEPS if len(long) else ():
        header[long] += total[long] >= step
    return header


def _payloads(start: Places, end: Places, data: Bytes) -> pl.Series:
    """Every value without its header. The same bytes, with a bound between header and payload: every second entry is a payload."""
    bounds = np.empty(2 * len(start) + 1, dtype=np.int32)
    bounds[0], bounds[2::2] = start[0], end
    bounds[1::2] = np.minimum(start + _headers(end - start), end)
    halves = pa.BinaryArray.from_buffers(pa.binary(), len(bounds) - 1, [None, pa.py_buffer(bounds), pa.py_buffer(data)])
    series = pl.from_arrow(halves)
    assert isinstance(series, pl.Series)
    return series


def _is_plain(start: Places, end: Places, data: Bytes) -> NDArray[np.bool_]:
    """Whether a value is nothing but one string with a minimal length prefix."""
    total, last = end - start, len(data) - 1
    plain: NDArray[np.bool_] = data[np.minimum(start, last)] == _STRING_TAG
    plain &= (total >= 2) & (data[np.minimum(start + 1, last)] == total - 2)
    long = np.flatnonzero(total >= _HEADER_STEPS[0])
    if len(long):
        plain[long] = _is_long(start[long], total[long], data)
    return plain


def _is_long(start: Places, total: Places, data: Bytes) -> NDArray[np.bool_]:
    """The same of values whose length takes more than a byte."""
    header = _headers(total)
    length = total - header
    plain: NDArray[np.bool_] = data[start] == _STRING_TAG
    for index in range(int(header.max()) - 1):
        more = header > index + 2
        expected = ((length >> (7 * index)) & 0x7F) | np.where(more, 0x80, 0)
        plain &= (header <= index + 1) | (data[start + 1 + index] == expected)
    return plain


def _utf8(raw: pl.Series) -> pl.Series:
    """Bytes as text, null where they are none."""
    try:
        return raw.cast(pl.String)
    except pl.exceptions.ComputeError:
        return pl.Series([_strict(one) for one in raw.to_list()], dtype=pl.String)


def _strict(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def _odd_texts(values: pa.BinaryArray, take: Index, start: Places, end: Places, data: Bytes) -> pl.Series:
    numbers, integer = _integers(start[take], end[take], data)
    result = pl.Series(numbers).cast(pl.String)
    rest = np.flatnonzero(~integer)
    if len(rest):
        serialized = values.take(pa.array(take[rest])).to_pylist()
        known = {one: any_text(one) for one in set(serialized)}
        result = result.scatter(pl.Series(rest), [known[one] for one in serialized])
    return result


def _integers(start: Places, end: Places, data: Bytes) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    last, width = len(data) - 1, end - start - 1
    good = (width >= 1) & (width <= _MAX_VARINT) & (data[np.minimum(start, last)] == _INT_TAG)
    number = np.zeros(len(start), dtype=np.uint64)
    for index in range(int(width[good].max(initial=0))):
        at = start + 1 + index
        inside = at < end
        byte = np.where(inside, data[np.minimum(at, last)], 0)
        good &= ~inside | ((byte >= 0x80) == (at + 1 < end))
        number |= (byte.astype(np.uint64) & np.uint64(0x7F)) << np.uint64(7 * index)
    return number.view(np.int64), good


def any_text(serialized: bytes) -> str | None:
    """The text of one serialized ``AnyValue``; null when it is empty or malformed."""
    value = any_value(serialized)
    if value is None or isinstance(value, str):
        return value
    return _plain_text(value)


def _plain_text(value: Any) -> str:
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def any_value(serialized: bytes) -> Any:
    """One serialized ``AnyValue`` as Python data (bytes as base64 text); None when it is empty or malformed."""
    try:
        return _python(AnyValue.FromString(serialized))
    except DecodeError:
        return any_lossy(serialized)


def any_lossy(serialized: bytes) -> str | None:
    """A string member whose text is not UTF-8, with replacement characters; None for anything else."""
    start, end, data = np.zeros(1, dtype=np.int32), np.full(1, len(serialized), dtype=np.int32), np.frombuffer(serialized, dtype=np.uint8)
    if not len(data):
        return None
    header = int(_headers(end - start)[0])
    return serialized[header:].decode("utf-8", "replace") if _is_plain(start, end, data)[0] else None


def _python(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    member = getattr(value, kind)
    if kind == "array_value":
        return [_python(item) for item in member.values]
    if kind == "kvlist_value":
        return {item.key: _python(item.value) for item in member.values}
    if kind == "bytes_value":
        return base64.b64encode(member).decode("ascii")
    # JSON has no NaN and no infinity; OTLP/JSON writes them as strings.
    return str(member) if isinstance(member, float) and not math.isfinite(member) else member
