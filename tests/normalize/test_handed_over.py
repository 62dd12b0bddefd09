"""A hand-off that messages tell of first is a hand-off, whichever description comes first."""

from __future__ import annotations

import json
from itertools import permutations

import pytest
from normalize.otlp_maker import NOW, TRACE, logs, span, traces

from otel_ir.model import Record
from otel_ir.offline import final_form

ADK = "gcp.vertex.agent"
MODEL, TOOL, NEXT, AGENT = (f"{number:016x}" for number in range(1, 5))
ASKED = json.dumps({"content": {"parts": [{"function_call": {"id": "c", "name": "transfer_to_agent", "args": {"agent_name": "b"}}}]}})
GIVEN = json.dumps({"content": {"parts": [{"function_response": {"id": "c", "name": "transfer_to_agent", "response": {"result": None}}}]}})
TRANSFER = {
    "gen_ai.operation.name": "execute_tool",
    "gen_ai.tool.name": "transfer_to_agent",
    "gen_ai.tool.call.id": "c",
    "gcp.vertex.agent.tool_call_args": '{"agent_name": "b"}',
}
GENERATES, INVOKES = ({"gen_ai.operation.name": name, "gen_ai.agent.name": "a"} for name in ("generate_content", "invoke_agent"))
REQUESTS = [
    ("logs", logs(span({}, event="gen_ai.choice", body=ASKED, trace=TRACE, span=MODEL), scope=ADK)),
    ("logs", logs(span({}, event="gen_ai.user.message", body=GIVEN, trace=TRACE, span=NEXT), scope=ADK)),
    ("traces", traces(span(TRANSFER, id=TOOL, parent=MODEL), scope=ADK)),
    ("traces", traces(span(GENERATES, id=MODEL, parent=AGENT), span(INVOKES, id=AGENT), scope=ADK)),
]


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_a_hand_off_in_whatever_order_it_is_told(order: tuple[int, ...]) -> None:
    records = [Record(at, REQUESTS[number][0], 2 * NOW, REQUESTS[number][1]) for at, number in enumerate(order, start=1)]  # type: ignore[arg-type]
    events = final_form(records)
    found = events.filter(events["otel_ir.duplicate_of"].is_null() & events["gen_ai.tool.name"].is_not_null())
    assert found.select("event.type", "otel_ir.handoff.from", "otel_ir.handoff.to").rows() == [("handoff", "a", "b")]
