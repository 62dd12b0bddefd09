"""Tells requests that came to the endpoint of another signal, which protobuf would often take in silence.

The messages of the signals differ in the wire types of their fields: the id of a trace stands where a log record has its time. No
encoder writes a field of its message in another wire type, so one that came so is of another message. What is of no signal for sure
is of the one it came to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from otel_ir.receive.refusal import Outcome, RefusedError
from otel_ir.receive.signals import SIGNALS, Signal


def check_signal(signal: Signal, message: Any) -> None:
    """Look at the first item of a request. Raises ``RefusedError`` if it is one of another signal."""
    item = _first(signal, message)
    if item is None or not _is_foreign(item):
        return
    content = item.SerializeToString()
    for other in SIGNALS:
        try:
            if other is not signal and not _is_foreign(other.item.FromString(content)):
                raise _refusal(signal, other)
        except DecodeError:
            continue


def refusal_of_unreadable(signal: Signal, content: bytes, why: object) -> RefusedError:
    """What to say of a body that is no request of this signal."""
    for other in SIGNALS:
        message: Any = other.request()
        try:
            message.ParseFromString(content)
        except DecodeError:
            continue
        item = _first(other, message)
        if item is not None and item.ListFields() and not _is_foreign(item):
            return _refusal(signal, other)
    return RefusedError(Outcome.INVALID, f"not protobuf: {why}")


def check_json(signal: Signal, document: Mapping[str, Any]) -> None:
    """Raises ``RefusedError`` for an object that has resources of another signal, and no word of its own."""
    if any(key in document for key in signal.keys):
        return
    for other in SIGNALS:
        if any(document.get(key) for key in other.keys):
            raise _refusal(signal, other)


def _refusal(signal: Signal, other: Signal) -> RefusedError:
    hint = f"send it to {other.path} (OTEL_EXPORTER_OTLP_{signal.name.upper()}_ENDPOINT?)"
    return RefusedError(Outcome.INVALID, f"the request holds {other.name}, not {signal.name}: {hint}")


def _first(signal: Signal, message: Any) -> Any | None:
    for resource in getattr(message, signal.resources):
        for scope in getattr(resource, signal.scopes):
            for item in getattr(scope, signal.items):
                return item
    return None


def _is_foreign(item: Any) -> bool:
    known = item.DESCRIPTOR.fields_by_number
    return any(field.field_number in known for field in UnknownFieldSet(item))
