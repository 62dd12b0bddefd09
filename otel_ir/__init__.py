"""otel_ir: incident detection and response for AI agents, on OpenTelemetry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_ir.sdk import IncidentResponseProcessor

__version__ = "0.1.0"

__all__ = ["IncidentResponseProcessor", "__version__"]


def __getattr__(name: str) -> Any:
    # The guard shares this package and must not pay for the engine (tests/test_architecture.py).
    if name == "IncidentResponseProcessor":
        from otel_ir.sdk import IncidentResponseProcessor

        return IncidentResponseProcessor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
