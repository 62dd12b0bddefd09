"""OTLP files -> requests: OTLP/JSON (an object, a list, or JSON lines as the Collector's file exporter writes) and protobuf.

Memory is bounded by the largest single request, that is a line of JSON lines, a message of a length-prefixed file, or a whole
JSON document; none may be larger than ``MAX_DOCUMENT``.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_ir.errors import InputError
from otel_ir.otlp_json import Signal, parse, requests

MAX_DOCUMENT = 256 << 20
"""Bytes of one JSON document, one line, or one protobuf message."""
SUFFIXES = (".json", ".jsonl", ".ndjson", ".binpb", ".pb")
"""Files that are read when a folder is named; each may be gzipped (``.gz``)."""
_Stream = gzip.GzipFile | BinaryIO
_BINARY = (".binpb", ".pb", ".bin", ".proto")
_PREFIX = 4


class FileRequest(NamedTuple):
    """One request of a file: protobuf bytes, and where it stood (``line`` counts from 1; for protobuf files it counts messages)."""

    signal: Signal
    body: bytes
    path: str
    line: int


def read_otlp(paths: Iterable[Path]) -> Iterator[FileRequest]:
    """The requests of all files, in the order of the paths; a folder stands for its OTLP files by name.

    Raises ``InputError`` (``path:line: what``) at the first file, line or message that cannot be read.
    """
    for path in paths:
        for file in otlp_files(path):
            yield from _read(file)


def otlp_files(path: Path) -> list[Path]:
    """The file itself, or the OTLP files of a folder by name. Raises ``InputError`` for a folder without any."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.is_file() and file.name.removesuffix(".gz").endswith(SUFFIXES))
    if not files:
        raise InputError(f"{path}: no OTLP files ({', '.join(SUFFIXES)})")
    return files


def _read(path: Path) -> Iterator[FileRequest]:
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as stream:
            binary = path.name.removesuffix(".gz").endswith(_BINARY)
            yield from _read_protobuf(path, stream) if binary else _read_json(path, stream)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _read_json(path: Path, stream: _Stream) -> Iterator[FileRequest]:
    """The first line decides: if it is complete JSON, every line is; else the file is one document."""
    number = 0
    while line := stream.readline(MAX_DOCUMENT + 1):
        number += 1
        if line.isspace():
            continue
        first = number == 1 or not line.endswith(b"\n")
        try:
            data = parse(_bounded(line))
        except InputError as error:
            if not first or len(line) > MAX_DOCUMENT or not (rest := stream.read(MAX_DOCUMENT - len(line) + 1)):
                raise InputError(f"{path}:{number}: {error}") from None
            yield from _document(path, line + rest)
            return
        yield from _located(path, number, data)


def _document(path: Path, text: bytes) -> Iterator[FileRequest]:
    try:
        data = parse(_bounded(text))
    except InputError as error:
        raise InputError(f"{path}:1: {error}") from None
    yield from _located(path, 1, data)


def _located(path: Path, line: int, data: object) -> Iterator[FileRequest]:
    try:
        for signal, body in requests(data):
            yield FileRequest(signal, body, str(path), line)
    except InputError as error:
        raise InputError(f"{path}:{line}: {error}") from None


def _bounded(text: bytes) -> bytes:
    if len(text) > MAX_DOCUMENT:
        raise InputError(f"larger than {MAX_DOCUMENT} bytes; write JSON lines instead of one document")
    return text


def _read_protobuf(path: Path, stream: _Stream) -> Iterator[FileRequest]:
    """One request, or messages with a 4-byte big-endian length before each (the file exporter's ``format: proto``)."""
    head = stream.read(_PREFIX)
    length = int.from_bytes(head, "big")
    # The first byte of a request is the tag 0x0a, of a length prefix under 160 MiB it is 0x00 to 0x09.
    if len(head) < _PREFIX or head[0] == 0x0A:
        body = head + stream.read(MAX_DOCUMENT + 1)
        yield FileRequest(_signal(path, 1, body), body, str(path), 1)
        return
    number = 0
    while head:
        number += 1
        body = stream.read(length) if length <= MAX_DOCUMENT else b""
        if len(head) < _PREFIX or len(body) != length:
            raise InputError(f"{path}:{number}: not OTLP: message of {length} bytes is cut or too large")
        yield FileRequest(_signal(path, number, body), body, str(path), number)
        head = stream.read(_PREFIX)
        length = int.from_bytes(head, "big")


def _signal(path: Path, number: int, body: bytes) -> Signal:
    """Traces and logs share their envelope; what tells them apart is whether the rows have a trace id where spans have it."""
    try:
        spans = ExportTraceServiceRequest.FromString(body)
        if any(span.trace_id for one in spans.resource_spans for scope in one.scope_spans for span in scope.spans):
            return "traces"
        logs = ExportLogsServiceRequest.FromString(body)
    except DecodeError as error:
        raise InputError(f"{path}:{number}: not OTLP: {error}") from None
    rows = any(scope.log_records for one in logs.resource_logs for scope in one.scope_logs)
    return "logs" if rows else "traces"
