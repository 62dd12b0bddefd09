"""OTLP/JSON -> protobuf: the proto3 JSON mapping with the deviations of the OTLP specification ("JSON Protobuf Encoding").

The one that matters is that trace and span ids are hex, not base64. Unknown fields are ignored, 64-bit integers may be strings
or numbers; ``google.protobuf.json_format`` does both. Enum names and snake_case keys, which OTLP does not allow, are read
as that mapping reads them.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import msgspec
from google.protobuf import json_format

from otel_ir.receive.other_signal import check_json
from otel_ir.receive.refusal import Outcome, RefusedError
from otel_ir.receive.signals import Signal

MAX_OBJECTS = 500_000
"""JSON objects of one request. One takes about 5 µs, so this bounds the time of a request to a few seconds of one core."""
_DEPTH = 100
"""Nesting that the protobuf parser takes as well (upb's default limit)."""
_BAD_ID = b64encode(b"?").decode()
"""Stands for an id that is not hex: of a length no id has, so the item is refused like any other with a wrong id."""

_CONTAINERS = {"traces": ("resourceSpans", "scopeSpans", "spans"), "logs": ("resourceLogs", "scopeLogs", "logRecords")}
_IDS = ("traceId", "spanId", "parentSpanId")


def to_protobuf(signal: Signal, text: bytes) -> bytes:
    """The request as protobuf bytes. Raises ``RefusedError`` (INVALID) for anything that is not OTLP/JSON."""
    if text.count(b"{") > MAX_OBJECTS:
        raise RefusedError(Outcome.TOO_LARGE, f"more than {MAX_OBJECTS} JSON objects in one request; send smaller batches, or protobuf")
    try:
        document = msgspec.json.decode(text)
        if not isinstance(document, dict):
            raise RefusedError(Outcome.INVALID, f"a JSON object is expected, not {type(document).__name__}")
        check_json(signal, document)
        for item in _items(signal, document):
            _ids_to_base64(item)
        message = json_format.ParseDict(document, signal.request(), ignore_unknown_fields=True, max_recursion_depth=_DEPTH)
    except (json_format.ParseError, msgspec.MsgspecError, RecursionError, ValueError, TypeError, AttributeError) as error:
        raise RefusedError(Outcome.INVALID, f"not OTLP/JSON: {error}") from None
    content: bytes = message.SerializeToString()
    return content


def _items(signal: Signal, document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    level = [document]
    for key in _CONTAINERS.get(signal.name, ()):
        level = [child for parent in level for child in _objects(parent.get(key))]
    yield from level


def _objects(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _ids_to_base64(item: dict[str, Any]) -> None:
    bad = [_convert(one) for one in (item, *_objects(item.get("links")))]
    if any(bad):
        item["traceId"] = _BAD_ID


def _convert(holder: dict[str, Any]) -> bool:
    """Rewrite the ids of a span, link or log record in place; whether one of them was not hex."""
    bad = False
    for key in _IDS:
        value = holder.get(key)
        if value is None or value == "":
            continue
        try:
            holder[key] = b64encode(bytes.fromhex(value)).decode()
        except (TypeError, ValueError):
            holder[key], bad = _BAD_ID, True
    return bad
