"""Out to any OTLP endpoint: alerts, what was done about them, how the incidents go on, and our metrics."""

from otel_ir.export.changes import ACTION_ATTRIBUTES, INCIDENT_ATTRIBUTES, action_log, action_span, incident_log
from otel_ir.export.loop import ExportLoop
from otel_ir.export.otlp import ExportConfig, Item, OtlpExporter, metric_exporter
from otel_ir.export.records import ATTRIBUTES, EVENT_NAME, alert_attributes, alert_log, alert_span
from otel_ir.export.sources import Source, alert_item, ledger_sources

__all__ = [
    "ACTION_ATTRIBUTES",
    "ATTRIBUTES",
    "EVENT_NAME",
    "INCIDENT_ATTRIBUTES",
    "ExportConfig",
    "ExportLoop",
    "Item",
    "OtlpExporter",
    "Source",
    "action_log",
    "action_span",
    "alert_attributes",
    "alert_item",
    "alert_log",
    "alert_span",
    "incident_log",
    "ledger_sources",
    "metric_exporter",
]
