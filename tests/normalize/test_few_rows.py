"""A few rows are read one by one, many by queries: the same comes out, for every capture and for odd texts."""

from __future__ import annotations

import re

import pytest
from detect.test_fold_ways import ways
from hypothesis import given, settings
from hypothesis import strategies as st
from normalize.otlp_maker import NOW, capture_records, span, stems, traces
from polars.testing import assert_frame_equal
from thorough import examples

from otel_ir.decode import decode_logs, decode_traces
from otel_ir.model import Record
from otel_ir.normalize.dialects import DIALECTS
from otel_ir.normalize.extract import Extract, extract

FIELDS = frozenset({"otel_ir.arguments.email", "otel_ir.arguments.to.length", "http.url"})
WHOLE = 1 << 20


def _both(record: Record) -> tuple[Extract, Extract]:
    decode = decode_traces if record.kind == "traces" else decode_logs
    found = []
    for few in (0, WHOLE):
        with ways(few, 0):
            found.append(extract(decode([record]), FIELDS))
    return found[0], found[1]


def _same(record: Record) -> None:
    many, few = _both(record)
    for name in ("events", "nodes", "calls"):
        assert_frame_equal(getattr(many, name), getattr(few, name))


@pytest.mark.parametrize("stem", stems())
def test_captures_read_the_same(stem: str) -> None:
    for record in capture_records(stem):
        _same(record)


_LIMIT = st.sampled_from([999, 1000, 1024, 4096, 65536])
_TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from([
        "", "{", "{}", "[", '"', "\x1c{'a': 1}", "\x85{'a': 1}", "\x1c{", " \u3000[", "{'a': 1}", '{"a": 1', "[REDACTED]", "x<elided>y",
        '{"kwargs": {"email": "a"}, "args": []}', '{"email": "\\u00e9"}', "<REDACTED", "\x00", "\u2028{", '{"tool_call_id": 1}',
    ]),
    _LIMIT.map(lambda size: "x" * size),
    _LIMIT.map(lambda size: '{"email": "' + "x" * size),
)  # fmt: skip
_KEYS = st.sampled_from([
    "gen_ai.operation.name", "gen_ai.tool.name", "gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "gen_ai.agent.name",
    "gen_ai.agent.id", "gen_ai.output.messages", "gen_ai.input.messages", "input.value", "output.value", "openinference.span.kind",
    "otel_ir.event.type", "error", "error.type", "otel_ir.executed", "gen_ai.usage.input_tokens", "metadata",
])  # fmt: skip
_KINDS = st.sampled_from(["execute_tool", "chat", "invoke_agent", "TOOL", "LLM", "tool_call", "model_output", "true", "3", "yes"])


@settings(max_examples=examples(150))
@given(
    st.lists(st.tuples(st.dictionaries(_KEYS, _TEXTS | _KINDS, max_size=6), st.integers(0, 2), st.sampled_from([0, 1, NOW])), max_size=4),
    st.sampled_from(["", "pydantic-ai", "openinference.instrumentation.langchain", "opentelemetry.instrumentation.genai.x"]),
    st.sampled_from([("", ""), ("t", ""), ("", "s"), ("t", "s")]),
)
def test_odd_texts_read_the_same(spans: list[tuple[dict[str, str], int, int]], scope: str, who: tuple[str, str]) -> None:
    made = [span(attributes, status=status, name="running tool", kind=3, end=end) for attributes, status, end in spans]
    _same(Record(1, "traces", NOW, traces(*made, scope=scope, service="svc"), *who))


def test_white_space_stands_outside_of_brackets() -> None:
    """What ``few.matches`` asks of the patterns of unwrappers."""
    needs = {step.needs for dialect in DIALECTS for step in dialect.unwrap if step.needs}
    assert needs
    assert not [pattern for pattern in needs if re.search(r"(?<!\\)\[[^\]]*\\s", pattern)]
