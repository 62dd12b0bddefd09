"""Logfire on the model clients (OpenAI, Anthropic and others): the GenAI conventions, before 5.0 requests and answers as they are.

A streamed answer has two spans: the request's, which ends at once and says nothing of the answer, and another one when the stream ends.
"""

from __future__ import annotations

from otel_ir.normalize.dialects.otel_genai import DIALECT as GENAI
from otel_ir.normalize.table import On, Unwrap

_ASKS = ("@name^=Chat Completion with ", "@name^=Message with ", "@name^=Responses API with ", "@name^=streaming response from ")
_CHAT = "gen_ai.operation.name=chat|responses|generate_content|text_completion"
_SILENT = ("!gen_ai.response.id", "!gen_ai.output.messages", "!response_data", "!events")

DIALECT = GENAI.but(
    name="logfire",
    about="Logfire on model clients: model calls and the tool calls in their messages; content is captured by default.",
    scopes=("logfire.*",),
    markers=(),
    classify=(
        ("model_output", _CHAT, "@status=2"),
        ("none", _CHAT, *_SILENT),
        *GENAI.classify,
        *(("model_output", name, "@status=2") for name in _ASKS),
        *(("none", name, *_SILENT) for name in _ASKS),
        *(("model_output", name) for name in _ASKS),
    ),
    unwrap=(
        *GENAI.unwrap,
        Unwrap("request_data", "members", ("messages", "model"), event="model_output"),
        Unwrap("response_data", "model answer", ("messages", "input_tokens", "output_tokens"), event="model_output"),
    ),
    columns={
        "gen_ai.request.model": ("gen_ai.request.model", "request_data#model"),
        "gen_ai.usage.input_tokens": ("gen_ai.usage.input_tokens", "response_data#input_tokens"),
        "gen_ai.usage.output_tokens": ("gen_ai.usage.output_tokens", "response_data#output_tokens"),
        "gen_ai.input.messages": ("gen_ai.input.messages", On("model_output", "request_data#messages"), On("model_output", "events")),
        "gen_ai.output.messages": ("gen_ai.output.messages", On("model_output", "response_data#messages")),
    },
    messages="logfire",
    remedies=(),
)
