"""Journal records -> ``Batch``: Polars frames and long attribute tables, without a Python loop over spans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from otel_ir.decode.values import Index, any_text, texts
from otel_ir.decode.wire import Signal, to_arrow
from otel_ir.model import Record

MAX_TIME = (1 << 63) - 1
"""Times above it (unsigned on the wire) are clamped to it."""
_FEW = 16
_HEX = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), dtype="<u2")


@dataclass(frozen=True)
class Attributes:
    """A long attribute table, its values still serialized: entry ``i`` says that row ``row[i]`` has ``keys[code[i]] = values[i]``.

    Entries stand in row order. A key that is repeated within a row (which OTLP forbids) counts with its last value.
    """

    row: NDArray[np.int64]
    code: NDArray[np.int32]
    keys: list[str]
    values: pa.BinaryArray

    @cached_property
    def _by_code(self) -> tuple[Index, Index]:
        """Entries ordered by key, and where each key's stretch begins."""
        order = np.argsort(self.code.astype(np.uint16) if len(self.keys) < 1 << 16 else self.code, kind="stable")
        return order, np.concatenate([[0], np.cumsum(np.bincount(self.code, minlength=len(self.keys)))])

    @cached_property
    def codes(self) -> dict[str, int]:
        """Code of each key that occurs."""
        return {key: code for code, key in enumerate(self.keys)}

    def entries(self, key: str) -> Index:
        """Indices of the entries with this key, in row order."""
        code = self.codes.get(key)
        if code is None:
            return np.empty(0, dtype=np.int64)
        order, bounds = self._by_code
        return order[bounds[code] : bounds[code + 1]]

    def texts(self, take: Index) -> pl.Series:
        """The text of these entries (see ``values.py``)."""
        return texts(self.values, take)

    def frame(self, needed: frozenset[str]) -> pl.DataFrame:
        """Rows ``(row u32, key, text)`` of the needed keys only, ordered by row and key."""
        take = np.sort(np.concatenate([self.entries(key) for key in needed] or [np.empty(0, dtype=np.int64)]))
        keys = pl.Series(self.keys, dtype=pl.String).gather(self.code[take])
        frame = pl.DataFrame({"row": pl.Series(self.row[take].astype(np.uint32)), "key": keys, "text": self.texts(take)})
        return frame.unique(["row", "key"], keep="last").sort("row", "key")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A frame of records of one signal, decoded.

    ``rows``: one per span (log record), in journal order: row u32, ordinal i64, position u32 (within its record), received i64,
    tenant, sender, trace_id, span_id (lower hex; null when empty), resource u32, scope u32 (rows of ``resource_attributes`` and
    ``scopes``), dropped_attributes_count u32, and
    spans: parent_span_id (null for a root), name, kind i32, start, end i64, status_code i32, status_message;
    logs: time, observed i64, severity_number i32, severity_text, event_name.
    ``events`` (row u32 = span, time i64, name) and ``links`` (row u32, trace_id, span_id) belong to spans, ``bodies`` (serialized
    ``AnyValue``) to logs. ``rejected``: ordinal and reason of records that are not OTLP.
    """

    signal: Signal
    rows: pl.DataFrame
    attributes: Attributes
    resource_attributes: Attributes
    scopes: pl.DataFrame
    events: pl.DataFrame
    event_attributes: Attributes
    links: pl.DataFrame
    bodies: pa.BinaryArray
    rejected: list[tuple[int, str]] = field(default_factory=list)

    @cached_property
    def body_texts(self) -> pl.Series:
        """The text of each log record's body, null for none."""
        return pl.Series([any_text(body) if body else None for body in self.bodies.to_pylist()], dtype=pl.String)


def decode_traces(records: Sequence[Record]) -> Batch:
    """Records of kind ``traces`` -> their spans. Other kinds are the caller's mistake; bad bytes end in ``Batch.rejected``."""
    return _decode("traces", records)


def decode_logs(records: Sequence[Record]) -> Batch:
    """Records of kind ``logs`` -> their log records. As ``decode_traces``."""
    return _decode("logs", records)


def _decode(signal: Signal, records: Sequence[Record]) -> Batch:
    requests, bad = to_arrow(signal, [record.body for record in records])
    resources = requests.flatten()
    scopes = resources.field("scopes").flatten()
    items = scopes.field("rows").flatten()
    scope = _owner(scopes.field("rows"))
    resource = _owner(resources.field("scopes"))[scope]
    record = _owner(requests)[resource]
    columns = _of_record(records, record) | {
        "trace_id": _hex(items.field("trace_id")),
        "span_id": _hex(items.field("span_id")),
        "resource": pl.Series(resource.astype(np.uint32)),
        "scope": pl.Series(scope.astype(np.uint32)),
        "dropped_attributes_count": _series(items.field("dropped_attributes_count")),
    }
    return Batch(
        signal=signal,
        rows=pl.DataFrame(columns | (_span_columns(items) if signal == "traces" else _log_columns(items))),
        attributes=_attributes(items.field("attributes")),
        resource_attributes=_attributes(resources.field("resource").field("attributes")),
        scopes=pl.DataFrame({name: _series(scopes.field("scope").field(name)) for name in ("name", "version")}),
        bodies=items.field("body") if signal == "logs" else pa.array([], type=pa.binary()),
        rejected=[(records[index].ordinal, reason) for index, reason in bad],
        **_children(items, signal),
    )


def _of_record(records: Sequence[Record], record: Index) -> dict[str, pl.Series]:
    first = np.searchsorted(record, record)
    row = np.arange(len(record))

    owner = pl.Series(record.astype(np.uint32))

    def each(values: list[Any], dtype: Any) -> pl.Series:
        series = pl.Series(values, dtype=dtype)
        return series.new_from_index(0, len(row)) if len(values) == 1 else series[owner]

    return {
        "row": pl.Series(row.astype(np.uint32)),
        "ordinal": each([one.ordinal for one in records], pl.Int64),
        "position": pl.Series((row - first).astype(np.uint32)),
        "received": each([one.received for one in records], pl.Int64),
        "tenant": each([one.tenant for one in records], pl.String),
        "sender": each([one.sender for one in records], pl.String),
    }


def _span_columns(items: pa.StructArray) -> dict[str, pl.Series]:
    parent = _hex(items.field("parent_span_id"))
    return {
        "parent_span_id": _not_zero(parent),
        "name": _series(items.field("name")),
        "kind": _series(items.field("kind")),
        "start": _time(items.field("start_time_unix_nano")),
        "end": _time(items.field("end_time_unix_nano")),
        "status_code": _series(items.field("status").field("code")),
        "status_message": _series(items.field("status").field("message")),
    }


def _not_zero(ids: pl.Series) -> pl.Series:
    """The all-zero id is invalid (W3C trace context), so it names no parent either."""
    zero = "0" * 16
    has = zero in ids.to_list() if len(ids) <= _FEW else zero in ids
    return ids.set(ids == zero, None) if has else ids


def _log_columns(items: pa.StructArray) -> dict[str, pl.Series]:
    return {
        "time": _time(items.field("time_unix_nano")),
        "observed": _time(items.field("observed_time_unix_nano")),
        "severity_number": _series(items.field("severity_number")),
        "severity_text": _series(items.field("severity_text")),
        "event_name": _series(items.field("event_name")),
    }


def _children(items: pa.StructArray, signal: Signal) -> dict[str, Any]:
    none = np.empty(0, dtype=np.uint32)
    if signal == "logs":
        empty = pa.array([], type=pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())])))
        return {"events": pl.DataFrame({"row": none}), "event_attributes": _attributes(empty), "links": pl.DataFrame({"row": none})}
    events, links = items.field("events").flatten(), items.field("links").flatten()
    if not len(events) and not len(links):
        return _NO_CHILDREN
    return {
        "events": pl.DataFrame(
            {
                "row": pl.Series(_owner(items.field("events")).astype(np.uint32)),
                "time": _time(events.field("time_unix_nano")),
                "name": _series(events.field("name")),
            }
        ),
        "event_attributes": _attributes(events.field("attributes")),
        "links": pl.DataFrame(
            {
                "row": pl.Series(_owner(items.field("links")).astype(np.uint32)),
                "trace_id": _hex(links.field("trace_id")),
                "span_id": _hex(links.field("span_id")),
            }
        ),
    }


def _owner(lists: pa.ListArray) -> Index:
    """For every item of the flattened lists, the index of its list."""
    counts = np.diff(np.frombuffer(lists.buffers()[1], dtype=np.int32)[lists.offset : lists.offset + len(lists) + 1])
    return np.repeat(np.arange(len(lists), dtype=np.int64), counts)


def _attributes(lists: pa.ListArray) -> Attributes:
    flat = lists.flatten()
    keys = pc.dictionary_encode(flat.field("key"))
    return Attributes(
        row=_owner(lists),
        code=np.asarray(keys.indices),
        keys=keys.dictionary.to_pylist(),
        values=flat.field("value"),
    )


def _series(array: pa.Array) -> pl.Series:
    series = pl.from_arrow(array)
    assert isinstance(series, pl.Series)
    return series


def _time(array: pa.Array) -> pl.Series:
    return pl.Series(np.minimum(array.to_numpy(), np.uint64(MAX_TIME)).astype(np.int64))


def _hex(ids: pa.BinaryArray) -> pl.Series:
    """Lower-case hex, null when empty. Ids of one width, that is nearly always, take a table lookup instead of a loop."""
    if len(ids) <= _FEW:
        return pl.Series([one.hex() or None for one in ids.to_pylist()], dtype=pl.String)
    _, offsets, content = ids.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int32)[ids.offset : ids.offset + len(ids) + 1].astype(np.int64)
    widths = np.diff(bounds)
    present = widths > 0
    width = int(widths.max(initial=0))
    if width == 0:
        return pl.Series([None], dtype=pl.String).new_from_index(0, len(ids))
    if not (widths[present] == width).all():
        text = _series(ids).bin.encode("hex")
        return text.set(text == "", None)
    digits = _HEX[np.frombuffer(content, dtype=np.uint8)[bounds[0] : bounds[-1]]]
    ends = np.concatenate([[0], np.cumsum(present) * 2 * width]).astype(np.int32)
    valid = pa.array(present).buffers()[1] if not present.all() else None
    return _series(pa.StringArray.from_buffers(len(ids), pa.py_buffer(ends), pa.py_buffer(digits), valid))


_NO_CHILDREN: dict[str, Any] = {
    "events": pl.DataFrame(schema={"row": pl.UInt32, "time": pl.Int64, "name": pl.String}),
    "event_attributes": Attributes(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32), [], pa.array([], type=pa.binary())),
    "links": pl.DataFrame(schema={"row": pl.UInt32, "trace_id": pl.String, "span_id": pl.String}),
}
