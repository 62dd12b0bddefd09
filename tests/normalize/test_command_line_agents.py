"""Codex CLI and Gemini CLI: what spans and log records say of a call, together and alone."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest
from normalize.otlp_maker import NOW, TRACE, logs, span, traces
from normalize.test_logs_join_spans import Request, records
from normalize.test_one_call_of_several_emitters import calls

from otel_ir.offline import final_form

_ARGUMENTS = {"id": 7}
_CALL = {"callId": "c-1", "name": "crm_find", "args": _ARGUMENTS}


def gemini(status: str, **response: Any) -> Request:
    answer = {"responseParts": [{"functionResponse": {"name": "crm_find", "response": response}}]}
    said = {
        "gen_ai.operation.name": "tool_call", "gen_ai.tool.name": "crm_find", "gen_ai.tool.call_id": "c-1",
        "gen_ai.conversation.id": "s-1", "gen_ai.input.messages": json.dumps(_CALL),
        "gen_ai.output.messages": json.dumps({"status": status, "request": _CALL, "response": answer}),
    }  # fmt: skip
    return "traces", traces(span(said, status=1, parent="b" * 16), scope="gemini-cli")


def gemini_log(*, success: bool) -> Request:
    said = {"event.name": "gemini_cli.tool_call", "session.id": "s-1", "function_name": "crm_find", "function_args": json.dumps(_ARGUMENTS)}
    said |= {"success": success} | ({} if success else {"error": "no such customer", "error_type": "mcp_tool_error"})
    return "logs", logs({"attributes": said, "time": NOW, "trace": TRACE, "span": "b" * 16}, scope="gemini-cli")


def test_a_gemini_log_record_says_whether_a_person_refused() -> None:
    refused = {"event.name": "gemini_cli.tool_call", "function_name": "crm_find", "success": False, "decision": "reject"}
    for sent in permutations([("logs", logs({"attributes": refused, "time": NOW}, scope="gemini-cli")), gemini("cancelled")]):
        for some in (sent, sent[:1]):
            (found,) = calls([*some]).rows(named=True)
            assert found["otel_ir.executed"] == "rejected"


def test_a_gemini_call_is_one_event_with_content() -> None:
    for sent in permutations([gemini("success", output="found"), gemini_log(success=True)]):
        (found,) = calls([*sent]).rows(named=True)
        assert (found["gen_ai.tool.call.id"], found["gen_ai.conversation.id"], found["otel_ir.executed"]) == ("c-1", "s-1", "yes")
        assert (json.loads(found["gen_ai.tool.call.arguments"]), found["gen_ai.tool.call.result"]) == (_ARGUMENTS, "found")


def test_a_gemini_call_that_failed_says_why() -> None:
    for sent in ([gemini("error", error="no such customer")], [gemini_log(success=False)], [gemini("error"), gemini_log(success=False)]):
        (found,) = calls(sent).rows(named=True)
        assert (found["error"], found["error.message"], found["otel_ir.executed"]) == (True, "no such customer", "yes")


def test_a_gemini_call_that_was_cancelled_did_not_run() -> None:
    assert calls([gemini("cancelled")])["otel_ir.executed"].to_list() == ["rejected"]


def codex_log(name: str, **said: Any) -> Request:
    attributes = {"event.name": f"codex.{name}", "conversation.id": "s-1", "model": "gpt"} | said
    return "logs", logs({"attributes": attributes, "event": "event otel/src/log.rs:1"}, scope="codex_otel.log_only")


_SPAN = {"codex.tool.phase": "dispatch", "tool_name": "mcp__crmfind", "call_id": "c-1", "conversation.id": "s-1"}
_DISPATCHED: Request = ("traces", traces(span(_SPAN), scope="codex_exec"))


@pytest.mark.parametrize("success", ["true", "false"])
def test_a_codex_call_is_one_event_with_content(success: str) -> None:
    result = codex_log(
        "tool_result", tool_name="find", call_id="c-1", success=success, arguments='{"id": 7}', output="out", agent_name="/root"
    )
    for sent in permutations([_DISPATCHED, result]):
        (found,) = calls([*sent]).rows(named=True)
        assert (found["gen_ai.tool.name"], found["gen_ai.conversation.id"], found["gen_ai.agent.name"]) == ("find", "s-1", None)
        assert (found["gen_ai.tool.call.arguments"], found["gen_ai.tool.call.result"]) == ('{"id": 7}', "out")
        assert (found["otel_ir.executed"], found["error"]) == ("yes", success == "false")


def test_a_codex_call_that_was_denied_did_not_run() -> None:
    denied = codex_log("tool_decision", tool_name="find", call_id="c-1", decision="denied", source="user")
    for sent in permutations([_DISPATCHED, denied]):
        assert calls([*sent])["otel_ir.executed"].to_list() == ["rejected"]


def test_codex_counts_an_answer_once() -> None:
    kind = {"event.kind": "response.completed"}
    sent = [codex_log("sse_event", **kind), codex_log("sse_event", **kind, input_token_count=50, output_token_count=2)]
    assert final_form(records(sent)).select("event.type", "gen_ai.usage.input_tokens").rows() == [("model_output", 50)]
