"""Decoding agrees with protobuf's own runtime, on anything the wire allows and on damaged bytes."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from decode import otlp_requests, upb_decoder
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from otel_ir.decode import Attributes, Batch, decode_logs, decode_traces
from otel_ir.decode.values import any_text, texts
from otel_ir.model import Record

OWN = ["position", "trace_id", "span_id", "dropped_attributes_count"]
SPAN = [*OWN, "parent_span_id", "name", "kind", "start", "end", "status_code", "status_message"]
LOG = [*OWN, "time", "observed", "severity_number", "severity_text", "event_name"]


def by_row(attributes: Attributes) -> dict[int, dict[str, Any]]:
    rows: dict[int, dict[str, Any]] = defaultdict(dict)
    for row, key, text in attributes.frame(frozenset(attributes.keys)).iter_rows():
        rows[row][key] = text
    return rows


def rebuilt(batch: Batch) -> list[dict[str, Any]]:
    """What the reference gives, out of a batch."""
    rows = batch.rows
    resources = by_row(batch.resource_attributes)
    scopes = batch.scopes.rows()
    attributes = by_row(batch.attributes)
    found = rows.select(SPAN if batch.signal == "traces" else LOG).to_dicts()
    for index, row in enumerate(found):
        row["attributes"] = attributes[index]
        row["resource"] = resources[rows["resource"][index]]
        row["scope"] = scopes[rows["scope"][index]]
        if batch.signal == "logs":
            row["body"] = any_text(batch.bodies[index].as_py())
        else:
            row["events"], row["links"] = [], []
    if batch.signal == "traces":
        of_events = by_row(batch.event_attributes)
        for index, (row, time, name) in enumerate(batch.events.iter_rows()):
            found[row]["events"].append((time, name, of_events[index]))
        for row, trace, span in batch.links.iter_rows():
            found[row]["links"].append((trace, span))
    return found


def decode(bodies: list[bytes], signal: str) -> Batch:
    records = [Record(10 + index, signal, 5, body, tenant=f"t{index}", sender="s") for index, body in enumerate(bodies)]  # type: ignore[arg-type]
    return decode_traces(records) if signal == "traces" else decode_logs(records)


@pytest.mark.parametrize("few", [0, 64])
@given(bodies=st.lists(otlp_requests.trace_bodies, max_size=3))
@settings(max_examples=30, deadline=None)
def test_spans_are_those_of_the_protobuf_runtime(few: int, bodies: list[bytes], monkeypatch_few: Any) -> None:
    with monkeypatch_few(few):
        batch = decode(bodies, "traces")
        assert rebuilt(batch) == [row for body in bodies for row in upb_decoder.spans(body)]
    expected = [10 + index for index, body in enumerate(bodies) for _ in upb_decoder.spans(body)]
    assert batch.rows["ordinal"].to_list() == expected
    assert batch.rows["tenant"].to_list() == [f"t{ordinal - 10}" for ordinal in expected]
    assert batch.rejected == []


@pytest.mark.parametrize("few", [0, 64])
@given(bodies=st.lists(otlp_requests.log_bodies, max_size=3))
@settings(max_examples=30, deadline=None)
def test_log_records_are_those_of_the_protobuf_runtime(few: int, bodies: list[bytes], monkeypatch_few: Any) -> None:
    with monkeypatch_few(few):
        assert rebuilt(decode(bodies, "logs")) == [row for body in bodies for row in upb_decoder.logs(body)]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    body = bytearray(draw(otlp_requests.trace_bodies.filter(bool)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(body) - 1))
        kind = draw(st.integers(0, 2))
        if kind == 0:
            body[at] = draw(st.integers(0, 255))
        elif kind == 1:
            body.insert(at, draw(st.integers(0, 255)))
        elif len(body) > 1:
            del body[at]
    return bytes(body)


@given(body=damaged())
@settings(max_examples=80, deadline=None)
def test_damaged_bytes_are_rejected_or_mean_the_same(body: bytes) -> None:
    """What the runtime accepts, decoding accepts with the same meaning. What it refuses is refused too, unless the damage lies inside one
    attribute value, which is decoded on its own: then that value is null or shows replacement characters."""
    batch = decode([body], "traces")
    try:
        expected = upb_decoder.spans(body)
    except DecodeError:
        assert batch.rejected or rebuilt(batch) is not None
        return
    assert batch.rejected == []
    assert rebuilt(batch) == expected


@given(good=st.lists(otlp_requests.trace_bodies, min_size=1, max_size=3), at=st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_a_bad_record_is_skipped_alone(good: list[bytes], at: int) -> None:
    at = min(at, len(good))
    bodies = [*good[:at], b"\x0a\xff\xff", *good[at:]]
    batch = decode(bodies, "traces")
    assert [ordinal for ordinal, _ in batch.rejected] == [10 + at]
    assert rebuilt(batch) == [row for body in good for row in upb_decoder.spans(body)]


def test_a_value_that_is_no_utf8_costs_only_itself() -> None:
    good = [AnyValue(string_value="x" * length).SerializeToString() for length in (0, 1, 127, 128, 300, 20_000)] * 20
    found = texts(pa.array([*good, b"\x0a\x02a\xff", *good], type=pa.binary()), np.arange(2 * len(good) + 1))
    assert found.to_list() == [*map(any_text, good), "a\ufffd", *map(any_text, good)]
