"""Alerts out: a child span and a log record for each, and our metrics, to any OTLP endpoint."""

from otel_ir.export.loop import AlertSource, ExportLoop
from otel_ir.export.otlp import AlertExporter, ExportConfig, metric_exporter
from otel_ir.export.records import ATTRIBUTES, EVENT_NAME, alert_attributes, alert_log, alert_span

__all__ = [
    "ATTRIBUTES",
    "EVENT_NAME",
    "AlertExporter",
    "AlertSource",
    "ExportConfig",
    "ExportLoop",
    "alert_attributes",
    "alert_log",
    "alert_span",
    "metric_exporter",
]
