"""Extract is stateless: however records are grouped into batches, the rows are the same."""

from __future__ import annotations

from itertools import pairwise

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from normalize.otlp_maker import NOW, capture_records, span, stems, traces
from polars.testing import assert_frame_equal

from otel_ir.decode import decode_logs, decode_traces
from otel_ir.model import Record
from otel_ir.normalize.extract import Extract, extract

FIELDS = frozenset({"otel_ir.arguments.email", "otel_ir.arguments.to.length", "logfire.msg", "http.url"})
BODIES = [(record.kind, record.body) for stem in stems() for record in capture_records(stem)]

_values = st.one_of(
    st.text(max_size=5),
    st.integers(-5, 500),
    st.booleans(),
    st.sampled_from(['{"email":"a"}', "{'to': 'b'}", "execute_tool", "chat", "TOOL", "LLM"]),
)
_keys = st.sampled_from(
    [
        "gen_ai.operation.name",
        "openinference.span.kind",
        "gen_ai.tool.name",
        "gen_ai.tool.call.arguments",
        "input.value",
        "output.value",
        "metadata",
        "gen_ai.agent.name",
        "session.id",
        "otel_ir.event.type",
        "error",
        "error.type",
        "http.status_code",
        "http.url",
        "llm.output_messages.0.message.tool_calls.0.tool_call.id",
        "gen_ai.usage.input_tokens",
    ]
)
_spans = st.builds(
    span,
    st.dictionaries(_keys, _values, max_size=5),
    status=st.integers(0, 2),
    name=st.sampled_from(["x", "running tool", "handoff to b"]),
    kind=st.integers(1, 3),
)
_scopes = st.sampled_from(
    ["", "pydantic-ai", "openinference.instrumentation.openai_agents", "openinference.instrumentation.langchain", "other"]
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    return traces(*draw(st.lists(_spans, max_size=3)), scope=draw(_scopes), service=draw(st.sampled_from([None, "svc"])))


def joined(parts: list[Extract]) -> list[pl.DataFrame]:
    return [pl.concat([getattr(part, name) for part in parts]) for name in ("events", "nodes", "calls")]


@st.composite
def cuts(draw: st.DrawFn) -> tuple[list[bytes], list[int]]:
    bodies = draw(st.lists(requests(), min_size=1, max_size=5))
    return bodies, sorted(draw(st.sets(st.integers(1, len(bodies)), max_size=3)))


@given(cuts())
@settings(max_examples=40, deadline=None)
def test_any_grouping_of_records_gives_the_same_rows(given_cuts: tuple[list[bytes], list[int]]) -> None:
    bodies, at = given_cuts
    records = [Record(10 + number, "traces", NOW + number, body, tenant=f"t{number % 2}") for number, body in enumerate(bodies)]
    single = joined([extract(decode_traces([record]), FIELDS) for record in records])
    bounds = [0, *at, len(records)]
    groups = [records[begin:end] for begin, end in pairwise(bounds)]
    grouped = joined([extract(decode_traces(group), FIELDS) for group in groups])
    for one, other in zip(single, grouped, strict=True):
        assert_frame_equal(one, other)


def test_all_captures_in_one_batch_are_the_captures_one_by_one() -> None:
    for kind, decode in (("traces", decode_traces), ("logs", decode_logs)):
        bodies = [body for other, body in BODIES if other == kind]
        records = [Record(1 + number, kind, 2 * NOW, body) for number, body in enumerate(bodies)]  # type: ignore[arg-type]
        single = joined([extract(decode([record]), FIELDS) for record in records])
        together = joined([extract(decode(records), FIELDS)])
        for one, other in zip(single, together, strict=True):
            assert_frame_equal(one, other)
