"""OTLP files of every form, and what is said about broken ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from decode import otlp_requests, upb_decoder
from google.protobuf.json_format import MessageToDict
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_ir.errors import InputError
from otel_ir.otlp_files import read_otlp
from otel_ir.otlp_json import to_protobuf

SPAN = {"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "name": "a"}
TRACES = {"resourceSpans": [{"scopeSpans": [{"spans": [SPAN]}]}]}
LOGS = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": "5", "body": {"stringValue": "x"}}]}]}]}


def found(path: Path) -> list[tuple[str, int, int]]:
    """(signal, rows, line) of every request."""
    rows = {"traces": upb_decoder.spans, "logs": upb_decoder.logs}
    return [(one.signal, len(rows[one.signal](one.body)), one.line) for one in read_otlp([path])]


def binary(data: Any, signal: str = "traces") -> bytes:
    return to_protobuf(signal, json.dumps(data))  # type: ignore[arg-type]


def prefixed(*bodies: bytes) -> bytes:
    return b"".join(len(body).to_bytes(4, "big") + body for body in bodies)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.json", json.dumps(TRACES), [("traces", 1, 1)]),
        ("a.json", json.dumps(TRACES, indent=2), [("traces", 1, 1)]),
        ("a.json", json.dumps([TRACES, LOGS]), [("traces", 1, 1), ("logs", 1, 1)]),
        ("a.json", json.dumps([TRACES, LOGS], indent=1), [("traces", 1, 1), ("logs", 1, 1)]),
        ("a.json", json.dumps(TRACES | LOGS), [("traces", 1, 1), ("logs", 1, 1)]),
        ("a.jsonl", f"{json.dumps(TRACES)}\n\n{json.dumps(LOGS)}\n", [("traces", 1, 1), ("logs", 1, 3)]),
        ("a.json", json.dumps({"resourceMetrics": []}), []),
        ("a.json", "{}", []),
        ("a.json", "", []),
        ("a.binpb", binary(TRACES), [("traces", 1, 1)]),
        ("a.binpb", binary(LOGS, "logs"), [("logs", 1, 1)]),
        ("a.binpb", prefixed(binary(TRACES), binary(LOGS, "logs")), [("traces", 1, 1), ("logs", 1, 2)]),
        ("a.binpb", b"", [("traces", 0, 1)]),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_every_form_is_read(tmp_path: Path, name: str, content: str | bytes, expected: list[tuple[str, int, int]], zipped: bool) -> None:
    data = content.encode() if isinstance(content, str) else content
    path = tmp_path / (name + ".gz" if zipped else name)
    path.write_bytes(gzip.compress(data) if zipped else data)
    assert found(path) == expected


def test_a_folder_stands_for_its_files_by_name(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text(json.dumps(LOGS))
    (tmp_path / "a.jsonl").write_text(json.dumps(TRACES))
    (tmp_path / "notes.txt").write_text("no")
    assert [one.signal for one in read_otlp([tmp_path])] == ["traces", "logs"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "nonsense", r"a\.json:1: not JSON"),
        ("a.jsonl", f"{json.dumps(TRACES)}\n{{\n", r"a\.jsonl:2: not JSON"),
        ("a.json", '{"spans": []}', r"a\.json:1: not OTLP: neither resourceSpans nor resourceLogs"),
        ("a.json", "[1]", r"a\.json:1: not OTLP: a JSON int"),
        ("a.json", '{"resourceSpans": 5}', r"a\.json:1: not OTLP"),
        ("a.json", json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [SPAN | {"traceId": "xyz!"}]}]}]}), r"a\.json:1: not OTLP"),
        (
            "a.json",
            json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [SPAN | {"spanId": "ABCDEFGHIJKLMNOP"}]}]}]}),
            "span_id is not 16 hex digits",
        ),
        ("a.json", "[" * 100_000, r"a\.json:1: not JSON"),
        ("a.binpb", "\x0a\x7f", r"a\.binpb:1: not OTLP"),
        ("a.binpb", "\x00\x00\x00\x09abc", r"a\.binpb:1: not OTLP: message of 9 bytes"),
        ("a.json.gz", "not gzip", r"a\.json\.gz: "),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        list(read_otlp([path]))


def test_a_missing_file_and_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json: No such file"):
        list(read_otlp([tmp_path / "none.json"]))
    with pytest.raises(InputError, match="no OTLP files"):
        list(read_otlp([tmp_path]))


def as_otlp_json(message: Any) -> dict[str, Any]:
    """Protobuf's JSON mapping, with ids in hex as OTLP wants them."""

    def convert(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: convert(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [convert(item) for item in value]
        if key in ("traceId", "spanId", "parentSpanId"):
            import base64

            return base64.b64decode(value).hex()
        return value

    return dict(convert(MessageToDict(message, use_integers_for_enums=True)))


@given(body=otlp_requests.trace_bodies)
@settings(max_examples=25, deadline=None)
def test_otlp_json_of_spans_means_the_same_as_their_protobuf(body: bytes) -> None:
    assume(b"short" not in body)  # an id which OTLP/JSON refuses
    text = json.dumps(as_otlp_json(ExportTraceServiceRequest.FromString(body)))
    assert upb_decoder.spans(to_protobuf("traces", text)) == upb_decoder.spans(body)


@given(body=otlp_requests.log_bodies, numbers=st.booleans())
@settings(max_examples=25, deadline=None)
def test_otlp_json_of_logs_means_the_same_as_their_protobuf(body: bytes, numbers: bool) -> None:
    assume(b"short" not in body)
    data = as_otlp_json(ExportLogsServiceRequest.FromString(body))
    if numbers:  # JavaScript exporters write 64-bit integers as numbers
        data = json.loads(json.dumps(data), object_hook=lambda one: {k: int(v) if k.endswith("UnixNano") else v for k, v in one.items()})
    assert upb_decoder.logs(to_protobuf("logs", json.dumps(data))) == upb_decoder.logs(body)
