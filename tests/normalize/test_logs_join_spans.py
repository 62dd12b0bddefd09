"""Log records and spans of one call, in any order and however often sent: one event."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from normalize.otlp_maker import CAPTURES, NOW, TRACE, capture_records, logs, span, stems, traces
from normalize.test_dialect_captures import scorer
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from thorough import examples

from otel_ir.engine import Fold
from otel_ir.model import Record
from otel_ir.offline import NO_RULES, final_events, final_form
from otel_ir.otlp_files import read_otlp

FACTS = (
    "event.type", "otel_ir.agent.id", "gen_ai.agent.name", "gen_ai.conversation.id", "user.id", "gen_ai.tool.name", "gen_ai.tool.call.id",
    "gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "otel_ir.arguments.size", "otel_ir.result.size", "otel_ir.executed", "error",
    "error.type", "error.message", "otel_ir.approval.decision", "otel_ir.handoff.to", "gen_ai.usage.input_tokens",
)  # fmt: skip
JOINED = ("claude_code_content", "claude_code_default", "openai_sdk_old_v2_content", "openai_sdk_otelgenai_event")
Request = tuple[str, bytes]


def requests(stem: str) -> list[Request]:
    """Every span and every log record of a capture as a request of its own."""
    found = []
    for path in (CAPTURES / f"{stem}.json", CAPTURES / f"{stem}.logs.json"):
        for one in read_otlp([path]) if path.exists() else ():
            found += [(one.signal, body) for body in _alone(one.signal, one.body)]
    return found


def _alone(signal: str, body: bytes) -> list[bytes]:
    kind: Any = ExportTraceServiceRequest if signal == "traces" else ExportLogsServiceRequest
    outer, middle, inner = (
        ("resource_spans", "scope_spans", "spans") if signal == "traces" else ("resource_logs", "scope_logs", "log_records")
    )
    found = []
    for resource in getattr(kind.FromString(body), outer):
        for scope in getattr(resource, middle):
            for item in getattr(scope, inner):
                one = kind()
                held = getattr(one, outer).add()
                held.resource.CopyFrom(resource.resource)
                kept = getattr(held, middle).add()
                kept.scope.CopyFrom(scope.scope)
                getattr(kept, inner).add().CopyFrom(item)
                found.append(one.SerializeToString())
    return found


def records(sent: list[Request]) -> list[Record]:
    return [Record(number, signal, 2 * NOW, body) for number, (signal, body) in enumerate(sent, start=1)]  # type: ignore[arg-type]


def facts(events: pl.DataFrame) -> list[str]:
    """What the events say, without where and when it was said; duplicates left out."""
    return sorted(map(repr, events.filter(pl.col("otel_ir.duplicate_of").is_null()).select(FACTS).rows()))


def final(sent: list[Request]) -> list[str]:
    return facts(final_form(records(sent)))


@pytest.mark.parametrize("stem", JOINED)
def test_a_capture_with_logs_scores_all_of_the_expected_facts(stem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [path for path in (CAPTURES / f"{stem}.json", CAPTURES / f"{stem}.logs.json") if path.exists()]
    final_events(paths).write_ndjson(tmp_path / f"{stem}.ndjson")
    status = scorer().main(["--min", "100", "-v", str(CAPTURES / "expected"), str(tmp_path), stem])
    assert status == 0, capsys.readouterr().out


def said(sent: list[Request]) -> list[str]:
    return everything(final_form(records(sent)))


def everything(events: pl.DataFrame) -> list[str]:
    """Everything the final events say, but where in the journal they stand, and of which there are other descriptions.

    Without the run, which only log records tell of Claude's answers: the captures' model gives several answers one id. And of calls that
    say the same, whose ids only messages tell, which has which id is open.
    """
    alike = ("trace_id", "gen_ai.tool.name", "gen_ai.tool.call.arguments")
    events = events.filter(pl.col("otel_ir.duplicate_of").is_null()).sort("start_time", "span_id")
    events = events.with_columns(pl.col("gen_ai.tool.call.id").sort().over(alike))
    place = ("otel_ir.event.id", "otel_ir.journal.ordinal", "otel_ir.journal.position", "otel_ir.run.id")
    return sorted(map(repr, events.drop(place).rows()))


@pytest.mark.parametrize("stem", stems())
def test_the_reverse_order_of_spans_and_log_records_gives_the_same_events(stem: str) -> None:
    sent = requests(stem)
    assert said(sent[::-1]) == said(sent)


@pytest.mark.parametrize(("stem", "seed"), [("ms_agent_framework_approval", 3), ("strands_adot_swarm", 1)])
def test_an_order_that_once_mattered_gives_the_same_events(stem: str, seed: int) -> None:
    sent = requests(stem)
    assert said(random.Random(seed).sample(sent, len(sent))) == said(sent)


@settings(max_examples=examples(40), deadline=None)
@given(st.sampled_from(stems()), st.randoms(use_true_random=False))
def test_any_order_of_spans_and_log_records_gives_the_same_events(stem: str, chance: Any) -> None:
    sent = requests(stem)
    shuffled = sent.copy()
    chance.shuffle(shuffled)
    assert said(shuffled) == said(sent)


@pytest.mark.parametrize("stem", stems())
def test_one_span_a_request_as_they_were_exported_gives_the_same_events_as_one_request(stem: str) -> None:
    order = [span_id for _, span_id in json.loads((CAPTURES / f"{stem}.meta.json").read_text(encoding="utf-8"))["export_order"]]

    def place(request: Request) -> int:
        spans = ExportTraceServiceRequest.FromString(request[1]).resource_spans if request[0] == "traces" else ()
        exported = [order.index(one.span_id.hex()) for held in spans for kept in held.scope_spans for one in kept.spans]
        return exported[0] if exported else len(order)

    assert final(sorted(requests(stem), key=place)) == facts(final_form(capture_records(stem)))


@pytest.mark.parametrize("stem", stems())
def test_delivering_every_request_twice_changes_nothing(stem: str) -> None:
    sent = requests(stem)
    once = final(sent)
    assert final([one for one in sent for _ in range(2)]) == once
    assert final(sent + sent) == once


@pytest.mark.parametrize("stem", JOINED)
def test_a_restart_at_any_epoch_and_any_framing_give_the_same_output(stem: str) -> None:
    stream = [*reversed(records(requests(stem)))]
    stream = [Record(number, one.kind, one.received, one.body) for number, one in enumerate(stream, start=1)]

    def run(size: int, *, restart: bool) -> list[tuple[Any, ...]]:
        fold, found, at = Fold(NO_RULES, epoch=8), [], 0
        while at < len(stream):
            for frame in fold.frames(stream[at : at + size]):
                output = fold.fold(frame)
                names = ("otel_ir.event.id", "otel_ir.journal.ordinal", "gen_ai.tool.call.arguments", "otel_ir.executed", "error")
                found += [("event", *row) for row in output.events.select(*names, "otel_ir.duplicate_of").rows()]
                found += [("patch", *row) for row in output.patches.select(*names).rows()]
                if restart and fold.at_epoch:
                    state, fold = fold.state(), Fold(NO_RULES, epoch=8)
                    fold.restore(state)
            at += size
        return sorted(found, key=repr)

    assert run(1, restart=False) == run(16, restart=False) == run(1, restart=True)


_TOOL = span(
    {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "lookup", "gen_ai.tool.call.id": "c-1"}, id="a" * 16, parent="b" * 16
)
_MOVED = {"attributes": {"session.id": "s-1"}, "trace": TRACE, "span": "a" * 16, "event": "strands.telemetry.tracer"}


def _moved() -> bytes:
    body = '{"input":{"messages":[{"role":"tool","content":{"content":"{\\"id\\": 7}","id":"c-1"}}]},'
    body += '"output":{"messages":[{"role":"assistant","content":{"message":"[{\\"text\\": \\"found\\"}]"}}]}}'
    return logs(_MOVED | {"body": body}, scope="strands.telemetry.tracer")


@pytest.mark.parametrize("log_first", [True, False])
def test_content_that_was_moved_to_a_log_record_comes_back_to_its_span(*, log_first: bool) -> None:
    sent = [("traces", traces(_TOOL)), ("logs", _moved())]
    found = final_form(records(sent[::-1] if log_first else sent)).row(0, named=True)
    assert found["gen_ai.tool.call.arguments"] == '{"id": 7}'
    assert found["gen_ai.tool.call.result"] == '[{"text": "found"}]'
    assert (found["otel_ir.executed"], found["otel_ir.arguments.size"]) == ("yes", 9)
    assert found["gen_ai.conversation.id"] == "s-1"


def test_content_that_was_moved_in_the_form_of_the_newer_conventions_is_the_arguments_and_the_result() -> None:
    given = [{"role": "tool", "parts": [{"type": "tool_call", "id": "c-1", "name": "lookup", "arguments": {"id": 7}}]}]
    came = [{"role": "tool", "parts": [{"type": "tool_call_response", "id": "c-1", "response": [{"text": "found"}]}]}]
    sides = {side: {"messages": [{"role": "user", "content": json.dumps(said)}]} for side, said in (("input", given), ("output", came))}
    sent = [("traces", traces(_TOOL)), ("logs", logs(_MOVED | {"body": json.dumps(sides)}, scope="strands.telemetry.tracer"))]
    for order in (sent, sent[::-1]):
        found = final_form(records(order)).row(0, named=True)
        assert found["gen_ai.tool.call.arguments"] == '{"id": 7}'
        assert found["gen_ai.tool.call.result"] == '[{"text": "found"}]'


def test_what_a_span_says_itself_is_not_overwritten_by_its_log_record() -> None:
    said = span(_TOOL["attributes"] | {"gen_ai.tool.call.arguments": '{"id": 1}'}, id="a" * 16)
    for sent in ([("traces", traces(said)), ("logs", _moved())], [("logs", _moved()), ("traces", traces(said))]):
        assert final_form(records(sent)).row(0, named=True)["gen_ai.tool.call.arguments"] == '{"id": 1}'


def test_a_tool_result_without_a_span_is_a_call_of_its_own_and_only_once() -> None:
    record = {"attributes": {"event.name": "tool_result", "tool_name": "Bash", "tool_use_id": "c-9", "session.id": "s", "success": "true"}}
    sent = ("logs", logs(record, scope="com.anthropic.claude_code.events"))
    events = final_form(records([sent, sent]))
    assert events.select("event.type", "gen_ai.tool.name", "otel_ir.executed", "gen_ai.conversation.id").rows() == [
        ("tool_call", "Bash", "yes", "s")
    ]


def test_two_results_of_one_millisecond_are_two_calls() -> None:
    made = [{"attributes": {"event.name": "tool_result", "tool_name": "Read", "tool_use_id": n, "session.id": "s"}} for n in ("1", "2")]
    events = final_form(records([("logs", logs(*made, scope="com.anthropic.claude_code.events"))]))
    assert events.height == events["otel_ir.event.id"].n_unique() == 2


def test_log_records_without_a_trace_survive_a_restart() -> None:
    tool = {"attributes": {"otel_ir.event.type": "tool_call", "gen_ai.tool.name": "t"}}
    choice = '{"message":{"tool_calls":[{"id":"c","function":{"name":"t","arguments":"{}"}}]}}'
    sent = [("logs", logs(tool, {"attributes": {"event.name": "gen_ai.choice"}, "body": choice}))]
    fold, again = Fold(NO_RULES, epoch=1), Fold(NO_RULES, epoch=1)
    fold.fold(records(sent))
    again.restore(fold.state())
    assert again.finish().events["gen_ai.tool.name"].to_list() == ["t"]


@pytest.mark.parametrize(("tenant", "sender"), [("", ""), ("t", ""), ("t", "s")])
def test_a_models_log_record_names_the_event_of_its_span_whoever_sent_both(tenant: str, sender: str) -> None:
    said = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 10}
    record = {"attributes": said, "event": "gen_ai.client.inference.operation.details", "time": NOW, "trace": TRACE, "span": "1" * 16}
    sent: list[Request] = [("traces", traces(span(said, id="1" * 16))), ("logs", logs(record))]
    events = final_form([replace(one, tenant=tenant, sender=sender) for one in records(sent)])
    (named,) = events["otel_ir.duplicate_of"].drop_nulls()
    assert named in events["otel_ir.event.id"]


def test_decisions_about_different_calls_in_one_span_are_as_many_approvals() -> None:
    def said(name: str, call: str, at: int, **more: str) -> Request:
        attributes = {"event.name": name, "tool_name": "Bash", "tool_use_id": call, "session.id": "s"} | more
        record = {"attributes": attributes, "time": NOW + at, "trace": TRACE, "span": "1" * 16}
        return "logs", logs(record, scope="com.anthropic.claude_code.events")

    accepted, ran = said("tool_decision", "c1", 0, decision="accept"), said("tool_result", "c1", 9, success="true")
    for sent in permutations([accepted, said("tool_decision", "c2", 5, decision="reject"), ran]):
        events = final_form(records([*sent])).filter(pl.col("otel_ir.duplicate_of").is_null())
        approvals = events.filter(pl.col("event.type") == "approval").select("gen_ai.tool.call.id", "otel_ir.approval.decision")
        assert sorted(approvals.rows()) == [("c1", "accept"), ("c2", "reject")]
        calls = events.filter(pl.col("event.type") == "tool_call").select("gen_ai.tool.call.id", "otel_ir.executed")
        assert sorted(calls.rows()) == [("c1", "yes"), ("c2", "rejected")]
