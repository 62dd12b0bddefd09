"""Receive OTLP over gRPC and HTTP: check it, hand it to the journal, answer when it is durable.

Both transports are thin; what is taken, refused or dropped is decided in one place, ``admission``.
"""

from __future__ import annotations

from otel_ir.receive.config import NO_COUNTER, AppendFn, Authenticate, Counter, Pages, ReceiveConfig, TokenConfig
from otel_ir.receive.receiver import Receiver

__all__ = ["NO_COUNTER", "AppendFn", "Authenticate", "Counter", "Pages", "ReceiveConfig", "Receiver", "TokenConfig"]
