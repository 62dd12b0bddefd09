"""What nobody's table reads, but which looks like the GenAI conventions: read as those say, and marked as a guess."""

from __future__ import annotations

from otel_ir.normalize.dialects.otel_genai import DIALECT as GENAI

DIALECT = GENAI.but(
    name="otel_genai_guess",
    about="Unknown instrumentation scopes with attributes of the GenAI conventions: the best guess, and named so.",
    scopes=(),
    markers=("gen_ai.operation.name", "gen_ai.tool.name", "gen_ai.system", "gen_ai.provider.name", "gen_ai.agent.name"),
)
