"""OpenInference on OpenAI's client for JavaScript (4.2): calls of a streamed answer run together into one."""

from __future__ import annotations

from otel_ir.normalize.dialects.openinference import DIALECT as OPENINFERENCE

DIALECT = OPENINFERENCE.but(
    name="openinference.openai_js",
    about="OpenInference on OpenAI's client for JavaScript: several calls of a streamed answer are written as one.",
    scopes=("@arizeai/openinference-instrumentation-openai",),
    markers=(),
    messages="openinference, run together",
)
