"""OTLP bytes -> Polars frames: ``decode_traces(records)`` and ``decode_logs(records)`` give a ``Batch``."""

from otel_ir.decode.batch import Attributes, Batch, decode_logs, decode_traces

__all__ = ["Attributes", "Batch", "decode_logs", "decode_traces"]
