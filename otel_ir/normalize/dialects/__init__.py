"""The registry: where two dialects want a span, the one that stands first reads it (scopes before markers)."""

from __future__ import annotations

from otel_ir.normalize.dialects import (
    http,
    openinference,
    openinference_crewai,
    openinference_llama_index,
    openinference_openai_agents,
    openinference_smolagents,
    otel_genai,
    pydantic_ai,
    stated,
)
from otel_ir.normalize.table import Dialect

DIALECTS: tuple[Dialect, ...] = (
    pydantic_ai.DIALECT,
    openinference_openai_agents.DIALECT,
    openinference_crewai.DIALECT,
    openinference_llama_index.DIALECT,
    openinference_smolagents.DIALECT,
    openinference.DIALECT,
    otel_genai.DIALECT,
    http.DIALECT,
    stated.DIALECT,
)
