"""Detect: event frames in, alerts out. Pure: no clock, no I/O; ``now`` is the receive time of the journal record."""

from otel_ir.detect.detector import Detector, run_events

__all__ = ["Detector", "run_events"]
