"""The post-mortem: one plain structure, written as Markdown, HTML and JSON. Facts come from the stores; what people write stays."""

from otel_ir.report.build import build_report
from otel_ir.report.files import write_report
from otel_ir.report.model import Report

__all__ = ["Report", "build_report", "write_report"]
