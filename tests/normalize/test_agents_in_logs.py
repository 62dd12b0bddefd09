"""Whose calls are those that log records without a trace tell of?"""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from normalize.otlp_maker import NOW, logs
from normalize.test_logs_join_spans import Request, records
from normalize.test_one_call_of_several_emitters import calls

from otel_ir.engine import Fold
from otel_ir.offline import NO_RULES

SCOPE = "com.anthropic.claude_code.events"


def logged(name: str, session: str | None = "s-1", agent: str | None = "a-1", service: str = "svc", **said: Any) -> Request:
    attributes = {"event.name": name, "session.id": session, "agent_id": agent} | said
    stated = {key: value for key, value in attributes.items() if value is not None}
    return "logs", logs({"attributes": stated, "time": NOW}, scope=SCOPE, service=service)


def ran(call: str = "c-1", **where: Any) -> Request:
    return logged("tool_result", tool_name="Bash", tool_use_id=call, success="true", **where)


NAMED = logged("api_request", request_id="r-1", model="m", **{"agent.name": "billing"})


def test_a_sub_agents_calls_are_those_of_the_agent_that_its_model_calls_name() -> None:
    for sent in permutations([NAMED, ran(), ran("c-2", agent=None), logged("api_request", agent=None, request_id="r-2", model="m")]):
        found = calls([*sent]).sort("gen_ai.tool.call.id")
        columns = ("gen_ai.agent.name", "otel_ir.agent.id", "otel_ir.agent.id_source")
        assert found.select(columns).rows() == [("billing", "svc/billing", "sibling"), (None, "svc/-", "resource")]


@pytest.mark.parametrize("where", [{"session": "s-2"}, {"agent": "a-2"}, {"service": "other"}, {"agent": None}, {"session": None}])
def test_no_other_run_is_taken_for_it(where: dict[str, str | None]) -> None:
    for sent in permutations([NAMED, ran(**where)]):
        assert calls([*sent])["gen_ai.agent.name"].to_list() == [None]


def test_a_record_in_a_span_is_not_taken_out_of_it() -> None:
    kind, body = ran()
    inside = logs(
        {"attributes": {"event.name": "tool_result", "session.id": "s-1", "agent_id": "a-1", "tool_name": "Bash", "tool_use_id": "c-1"}}
        | {"time": NOW, "trace": "c" * 32, "span": "d" * 16},
        scope=SCOPE,
    )
    assert kind == "logs"
    assert body != inside
    assert calls([NAMED, ("logs", inside)])["gen_ai.agent.name"].to_list() == [None]


def test_the_agent_becomes_known_in_the_record_that_names_it_however_records_are_framed() -> None:
    sent = records([ran(), ran("c-2", agent="a-2"), NAMED, ran("c-3")])
    told = []
    for frames in ([sent], [[one] for one in sent]):
        fold = Fold(NO_RULES)
        outputs = [fold.fold(frame) for frame in frames]
        told.append(
            [
                sorted(
                    row
                    for output in outputs
                    for row in frame(output).select("otel_ir.event.id", "otel_ir.journal.ordinal", "gen_ai.agent.name").rows()
                )
                for frame in (lambda output: output.events, lambda output: output.patches)
            ]
        )
    (events, patches), singly = told
    assert [events, patches] == singly
    assert [(at, name) for _, at, name in patches] == [(3, "billing")]
    assert sorted((at, name) for _, at, name in events if name) == [(3, "billing"), (4, "billing")]
