"""otel_ir: incident detection and response for AI agents, on OpenTelemetry."""

__version__ = "0.1.0"

__all__ = ["__version__"]
