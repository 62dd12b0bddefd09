"""Refusals: each reason, and how either transport says it (OTLP specification, "Failures", "Bad Data", "Throttling")."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import NamedTuple

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status

from otel_ir.errors import InputError, Overloaded, StorageError

_MESSAGE_LIMIT = 1024


class Outcome(StrEnum):
    """What became of a request: the values of ``outcome`` of the counter ``otel_ir.receive.requests``."""

    ACCEPTED = "accepted"
    PARTIAL = "partial"
    INVALID = "invalid"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    UNAUTHENTICATED = "unauthenticated"
    OVERLOADED = "overloaded"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    FAILED = "failed"


class _Codes(NamedTuple):
    grpc: grpc.StatusCode
    http: int


CODES: dict[Outcome, _Codes] = {
    Outcome.INVALID: _Codes(grpc.StatusCode.INVALID_ARGUMENT, 400),
    # RESOURCE_EXHAUSTED without RetryInfo is not retryable (OTLP/gRPC, "Failures"), which is meant: it will never fit.
    Outcome.TOO_LARGE: _Codes(grpc.StatusCode.RESOURCE_EXHAUSTED, 413),
    Outcome.UNSUPPORTED: _Codes(grpc.StatusCode.INVALID_ARGUMENT, 415),
    Outcome.UNAUTHENTICATED: _Codes(grpc.StatusCode.UNAUTHENTICATED, 401),
    Outcome.OVERLOADED: _Codes(grpc.StatusCode.UNAVAILABLE, 429),
    Outcome.UNAVAILABLE: _Codes(grpc.StatusCode.UNAVAILABLE, 503),
    Outcome.TIMEOUT: _Codes(grpc.StatusCode.DEADLINE_EXCEEDED, 408),
    Outcome.FAILED: _Codes(grpc.StatusCode.INTERNAL, 500),
}


class RefusedError(Exception):
    """A request that is answered with an error. ``retry_after`` (seconds) is set when the sender should try again."""

    def __init__(self, outcome: Outcome, message: str, *, retry_after: float | None = None) -> None:
        self.outcome, self.message, self.retry_after = outcome, message[:_MESSAGE_LIMIT], retry_after
        super().__init__(message)

    @classmethod
    def of(cls, error: Exception) -> RefusedError:
        """What a failed append means to the sender."""
        match error:
            case RefusedError():
                return error
            case Overloaded():
                return cls(Outcome.OVERLOADED, str(error), retry_after=error.retry_after)
            case StorageError():
                # Not the sender's fault, and the same data may be taken later: retryable.
                return cls(Outcome.UNAVAILABLE, "the journal cannot be written at present", retry_after=5.0)
            case TimeoutError():
                return cls(Outcome.UNAVAILABLE, "the journal did not take the request in time", retry_after=1.0)
            case InputError():
                return cls(Outcome.TOO_LARGE, str(error))
        # Retrying what trips over a defect of ours would only trip again.
        return cls(Outcome.FAILED, "internal error")

    @property
    def retry_seconds(self) -> str | None:
        """Value of the ``Retry-After`` header: whole seconds, at least one (RFC 9110, section 10.2.3)."""
        return None if self.retry_after is None else str(max(1, math.ceil(self.retry_after)))

    def status(self) -> Status:
        """As ``google.rpc.Status``, with ``RetryInfo`` where retrying helps and ``BadRequest`` where the data is bad."""
        status = Status(code=CODES[self.outcome].grpc.value[0], message=self.message)
        if self.retry_after is not None:
            seconds = int(self.retry_after)
            delay = Duration(seconds=seconds, nanos=int((self.retry_after - seconds) * 1e9))
            status.details.add().Pack(RetryInfo(retry_delay=delay))
        elif self.outcome is Outcome.INVALID:
            violation = BadRequest.FieldViolation(field="body", description=self.message)
            status.details.add().Pack(BadRequest(field_violations=[violation]))
        return status
