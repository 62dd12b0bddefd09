"""The in-process plug-in: the same fold as in ``serve``, run on every span that ends, in the agent's own process."""

from otel_ir.sdk.answer import RESPONSE_ATTRIBUTES, Guard
from otel_ir.sdk.processor import IncidentResponseProcessor

__all__ = ["RESPONSE_ATTRIBUTES", "Guard", "IncidentResponseProcessor"]
