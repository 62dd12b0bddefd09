"""A model call that failed, as the client library tells of it and an instrumentation around it: one event, which is an error."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from normalize.otlp_maker import NOW, TRACE, span, traces

from otel_ir.model import Record
from otel_ir.offline import final_form

OUTER, INNER, AGENT, MS = "a" * 16, "b" * 16, "f" * 16, 1_000_000
CLIENT, AROUND = "com.anthropic.sdk.python", "opentelemetry.instrumentation.anthropic"


def failed(scope: str, at: int, identity: str, trace: str = TRACE, parent: str = AGENT, **more: Any) -> bytes:
    said = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "anthropic", "gen_ai.request.model": "m", "error.type": "server_error"}
    inside = scope == CLIENT
    start, end = NOW + at * MS + inside * 1000, NOW + (at + 1) * MS - inside * 1000
    return traces(span(said | more, id=identity, trace=trace, parent=parent, start=start, end=end, status=2), scope=scope)


def events(sent: list[bytes], order: tuple[int, ...] | None = None) -> list[tuple[str, bool]]:
    sent = [sent[at] for at in order or range(len(sent))]
    found = final_form([Record(number, "traces", 2 * NOW, body) for number, body in enumerate(sent, start=1)])
    return sorted((row["span_id"], row["error"]) for row in found.rows(named=True) if row["otel_ir.duplicate_of"] is None)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("where", [{}, {"parent": OUTER}, {"trace": "1" * 32, "parent": ""}], ids=["beside", "below", "elsewhere"])
def test_the_instrumentations_span_is_the_event(where: dict[str, str], order: tuple[int, ...]) -> None:
    assert events([failed(CLIENT, 0, INNER, **where), failed(AROUND, 0, OUTER)], order) == [(OUTER, True)]


@pytest.mark.parametrize("order", [*permutations(range(4))])
def test_a_second_attempt_is_another_call(order: tuple[int, ...]) -> None:
    again = [failed(CLIENT, 5, "c" * 16), failed(AROUND, 5, "d" * 16)]
    sent = [failed(CLIENT, 0, INNER), failed(AROUND, 0, OUTER), *again]
    assert events(sent, order) == [(OUTER, True), ("d" * 16, True)]


def test_the_error_is_told_in_the_words_of_the_event() -> None:
    sent = [failed(CLIENT, 0, INNER), failed(AROUND, 0, OUTER, **{"error.type": "InternalServerError"})]
    for order in (sent, sent[::-1]):
        found = final_form([Record(number, "traces", 2 * NOW, body) for number, body in enumerate(order, start=1)])
        assert [row["error.type"] for row in found.rows(named=True) if row["span_id"] == OUTER] == ["InternalServerError"]


def test_another_model_is_another_call() -> None:
    assert len(events([failed(CLIENT, 0, INNER, **{"gen_ai.request.model": "n"}), failed(AROUND, 0, OUTER)])) == 2
