"""``otel-ir doctor`` as people and scripts call it: on captures, on a data folder, with and without faults."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from otel_ir.cli import app
from otel_ir.engine import Fold
from otel_ir.journal import FileJournal
from otel_ir.offline import read_records

CAPTURES = Path(__file__).parent.parent / "captures"
run = CliRunner().invoke


def _told(*arguments: str, status: int = 0) -> dict[str, Any]:
    done = run(app, ["doctor", *arguments, "--format", "json"])
    assert done.exit_code == status, done.output
    told: dict[str, Any] = json.loads(done.stdout)
    assert list(told) == ["checks", "services", "agents", "switch_on", "faults"]
    return told


def _agent(told: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in told["agents"] if one["otel_ir.agent.id"].endswith(name))


def test_content_capture_is_off_and_what_to_switch_on() -> None:
    told = _told(str(CAPTURES / "langgraph_otelgenai.json"), status=1)
    agent = _agent(told, "/triage_agent")
    missing = {one["what"]: one for one in agent["missing"]}
    assert {"arguments", "result", "messages", "system prompt", "user id"} == set(missing)
    assert missing["arguments"] == {
        "what": "arguments", "columns": ["gen_ai.tool.call.arguments"], "events": 3, "of": 3, "why": "content capture is off",
    }  # fmt: skip
    [blind] = agent["blind"]
    assert (blind["signal"], blind["wholly"], blind["needs"]) == ("data_exfiltration", True, ["otel_ir.arguments.body.length"])
    first = agent["remedies"][0]
    assert first["setting"] == "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_ONLY"
    assert {"arguments", "result", "messages"} <= set(first["gives"])
    assert agent["dialects"] == [{"dialect": "otel_genai.langchain", "guess": False, "events": agent["events"]}]
    assert told["faults"] == 2
    content = _told(str(CAPTURES / "langgraph_otelgenai_content.json"))
    assert _agent(content, "/triage_agent")["blind"] == []
    assert "arguments" not in {one["what"] for one in _agent(content, "/triage_agent")["missing"]}


@pytest.mark.parametrize(("capture", "loss", "setting"), [
    ("pydantic_ai_truncated64", "truncated", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"),
    ("openai_sdk_openinference_attr_overflow", "dropped", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"),
])  # fmt: skip
def test_content_that_was_lost_on_the_way(capture: str, loss: str, setting: str) -> None:
    told = _told(str(CAPTURES / f"{capture}.json"))
    assert any(one["lost"].get(loss) for one in told["agents"])
    assert setting in {remedy["setting"] for one in told["agents"] for remedy in one["remedies"]}


def test_an_unknown_scope_is_a_guess_and_says_so(tmp_path: Path) -> None:
    text = (CAPTURES / "langgraph_otelgenai_content.json").read_text()
    data = json.loads(text)
    for resource in data["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            scope["scope"] = {"name": "acme.agents"}
    (tmp_path / "spans.json").write_text(json.dumps(data))
    agent = _agent(_told(str(tmp_path)), "/triage_agent")
    assert (agent["dialects"][0]["dialect"], agent["dialects"][0]["guess"]) == ("otel_genai_guess", True)
    assert any("no table knows its scope" in text for text in agent["notes"])
    assert "otel_genai_guess (a guess)" in run(app, ["doctor", str(tmp_path)]).stdout


def test_spans_that_nobody_reads(tmp_path: Path) -> None:
    span = {"traceId": "1" * 32, "spanId": "2" * 16, "name": "x", "traceState": "ot=th:8", "parentSpanId": "3" * 16}
    (tmp_path / "spans.json").write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"scope": {"name": "nobody"}, "spans": [span]}]}]}))
    told = _told(str(tmp_path))
    assert told["agents"] == []
    [service] = told["services"]
    assert (service["kept_share"], service["sampled_spans"], service["parents_missing"]) == (0.5, 1, 1)
    assert [note.split(" ")[0] for note in service["notes"]] == ["no", "sampled:", "1"]
    done = run(app, ["doctor", str(tmp_path)])
    assert "no event of an agent was found" in done.stderr
    assert "as little as 50.00%" in done.stdout


def test_the_text_names_the_cause_and_the_switch_without_colors() -> None:
    done = run(app, ["doctor", str(CAPTURES / "langgraph_otelgenai.json")], env={"NO_COLOR": "1", "FORCE_COLOR": "1"})
    assert done.exit_code == 1
    plain = run(app, ["doctor", str(CAPTURES / "langgraph_otelgenai.json")]).stdout
    assert "missing   arguments on 3 of 3: content capture is off" in plain
    assert "blind     data_exfiltration (critical) can never fire" in plain
    assert "switch on OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_ONLY" in plain
    assert "\x1b[3" not in done.stdout


def test_ndjson_and_filters() -> None:
    done = run(app, ["doctor", str(CAPTURES / "langgraph_otelgenai.json"), "--format", "ndjson"])
    assert [json.loads(line)["kind"] for line in done.stdout.splitlines()][:3] == ["service", "agent", "agent"]
    told = _told(str(CAPTURES / "langgraph_otelgenai.json"), "--service", "demo-agent-svc", status=1)
    assert [one["service.name"] for one in told["services"]] == ["demo-agent-svc"]


def test_a_service_and_a_folder_that_are_not_there(tmp_path: Path) -> None:
    done = run(app, ["doctor", str(CAPTURES / "langgraph_otelgenai.json"), "--service", "nobody"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "--service nobody: nothing of it was seen; there is: demo-agent-svc" in done.stderr
    done = run(app, ["doctor", "--data", str(tmp_path / "nope")])
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"{tmp_path / 'nope'}: there is no such folder" in done.stderr


def test_a_configuration_that_is_not_there_is_all_that_is_told(tmp_path: Path) -> None:
    done = run(app, ["doctor", "-c", str(tmp_path / "nope.yaml")])
    assert done.exit_code == 1
    assert "nope.yaml: there is no such file" in done.stdout
    assert done.stderr == "nothing else was looked at: mend the configuration first\n"


@pytest.mark.parametrize(("capture", "status", "summary"), [
    ("langgraph_otelgenai", 1, "2 agents; because of what is missing, 1 rule can never fire on 2 of them (blind, above)"),
    ("langgraph_otelgenai_content", 0, "2 agents; no rule is kept from ever firing by what they leave out"),
])  # fmt: skip
def test_the_summary_says_how_many_rules_and_agents(capture: str, status: int, summary: str) -> None:
    done = run(app, ["doctor", str(CAPTURES / f"{capture}.json")])
    assert done.exit_code == status
    assert done.stderr == f"{summary}\n"


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _config(folder: Path, **receive: str) -> str:
    grpc, http = receive.get("grpc", f"127.0.0.1:{_free()}"), receive.get("http", f"127.0.0.1:{_free()}")
    path = folder / "otel-ir.yaml"
    path.write_text(f"data: {folder / 'data'}\nreceive: {{grpc_endpoint: '{grpc}', http_endpoint: '{http}'}}\n{receive.get('more', '')}")
    return str(path)


def _checks(told: dict[str, Any]) -> dict[str, str]:
    worst = {"ok": 0, "warning": 1, "fault": 2}
    found: dict[str, str] = {}
    for one in told["checks"]:
        found[one["check"]] = max(found.get(one["check"], "ok"), one["result"], key=worst.__getitem__)
    return found


def test_a_fresh_installation_is_in_order(tmp_path: Path) -> None:
    told = _told("-c", _config(tmp_path))
    assert set(_checks(told)) == {
        "config", "versions", "clock", "ports", "senders", "data folder", "journal", "ledger", "evidence", "rules", "adapters", "response",
        "export",
    }  # fmt: skip
    assert "fault" not in _checks(told).values()
    assert not (tmp_path / "data").exists(), "it only looks"


def test_who_may_send(tmp_path: Path) -> None:
    told = _told("-c", _config(tmp_path, more="enforce: true\n"))
    assert _checks(told)["senders"] == "warning"
    path = Path(_config(tmp_path, more="enforce: true\n"))
    path.write_text(path.read_text().replace("receive: {", "receive: {tokens: [{token: t, sender: desk}], "))
    assert _checks(_told("-c", str(path)))["senders"] == "ok"


def test_faults_are_told_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "bad.yml").write_text("title: x\n")
    (tmp_path / "response.yaml").write_text("mode: enfoce\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        here = f"127.0.0.1:{taken.getsockname()[1]}"
        more = f"rules: {tmp_path / 'rules'}\nresponse: {tmp_path / 'response.yaml'}\nexport: {{endpoint: 'http://127.0.0.1:{_free()}'}}\n"
        told = _told("-c", _config(tmp_path, grpc=here, more=more), status=1)
    assert {name for name, result in _checks(told).items() if result == "fault"} == {"ports", "rules", "adapters", "export"}
    broken = tmp_path / "broken.yaml"
    broken.write_text("recieve: {}\n")
    told = _told("-c", str(broken), status=1)
    assert [one["check"] for one in told["checks"]] == ["config"]
    assert "broken.yaml:1" in told["checks"][0]["detail"]


def _journal(folder: Path, capture: str, clock: int | None = None) -> None:
    async def fill() -> None:
        journal = FileJournal.open(folder / "journal", **({"clock": lambda: clock} if clock is not None else {}))
        for record in read_records([CAPTURES / capture]):
            await journal.append(record.kind, record.body)
        await journal.close()

    asyncio.run(fill())


def test_the_live_stream_out_of_the_journal(tmp_path: Path) -> None:
    _journal(tmp_path / "data", "langgraph_otelgenai.json")
    told = _told("-c", _config(tmp_path), status=1)
    assert _checks(told)["journal"] == "ok"
    assert _agent(told, "/triage_agent")["blind"][0]["signal"] == "data_exfiltration"
    for text in ("[]", "nonsense"):
        (tmp_path / "data" / "skipped.json").write_text(text)
        assert _checks(_told("-c", _config(tmp_path), status=1))["journal"] == "ok"
    (tmp_path / "data" / "skipped.json").write_text("[1]")
    told = _told("-c", _config(tmp_path))
    assert _checks(told)["journal"] == "warning"
    assert told["services"] == [], "what the engine set aside is not looked at"


def test_a_record_that_breaks_the_fold_is_told_beside_all_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("x")

    _journal(tmp_path / "data", "langgraph_otelgenai.json")
    monkeypatch.setattr(Fold, "fold", broken)
    told = _told("-c", _config(tmp_path), status=1)
    assert [one["detail"] for one in told["checks"] if one["check"] == "live stream"] == [
        "a record among the newest cannot be folded: KeyError: 'x'",
    ]  # fmt: skip
    assert [one["dialect"] for one in told["services"][0]["dialects"]] == ["otel_genai.langchain"]


def test_a_clock_that_went_back(tmp_path: Path) -> None:
    _journal(tmp_path / "data", "pydantic_ai.json", clock=4_000_000_000_000_000_000)
    told = _told("-c", _config(tmp_path), status=1)
    assert _checks(told)["clock"] == "fault"


def test_a_server_that_does_not_answer(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    where = {"grpc": f"127.0.0.1:{_free()}", "http": f"127.0.0.1:{_free()}", "pid": os.getpid()}
    (tmp_path / "data" / "serve.json").write_text(json.dumps(where))
    told = _told("-c", _config(tmp_path), status=1)
    assert [one["result"] for one in told["checks"] if one["check"] == "ports"] == ["fault", "fault"]


def test_help_has_examples() -> None:
    assert "otel-ir doctor spans.jsonl logs.jsonl" in run(app, ["doctor", "--help"]).stdout


def _capture(folder: Path, number: int, **changes: Any) -> None:
    """A request of one tool call with another name of service, agent or scope, with other attributes or fields of the span."""
    service, agent, scope = changes.get("service", "desk"), changes.get("agent", "bob"), changes.get("scope", "pydantic-ai")
    said = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "send_email", "gen_ai.agent.name": agent} | changes.get("said", {})
    span = {
        "traceId": f"{number + 1:032x}", "spanId": f"{number + 1:016x}", "name": "x", "endTimeUnixNano": "1767268800000000000",
        "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in said.items() if value is not None],
    } | changes.get("span", {})  # fmt: skip
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    request = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {"name": scope}, "spans": [span]}]}]}
    with (folder / "spans.jsonl").open("a") as file:
        file.write(json.dumps(request) + "\n")


def test_hostile_names_stay_in_their_line(tmp_path: Path) -> None:
    bad = ["\x1b[31mred", "a\nok      rules", "\x9b31mC1", "x" * 1_000_000, "\u202eevil", "z\u200bw", "\r\x1b[2K", "[bold]x[/bold]"]
    for number, one in enumerate(bad):
        _capture(tmp_path, number, service=one, agent=one, scope=one)
        unread = {"gen_ai.operation.name": None, "gen_ai.tool.name": None, "gen_ai.agent.name": None}
        _capture(tmp_path, 100 + number, service=f"unread {one}", scope=one, said=unread)
    text = run(app, ["doctor", str(tmp_path)]).stdout
    for seen in ("\x1b", "\x9b", "\r", "\u202e", "\u200b", "x" * 500):
        assert seen not in text
    assert not any(line.startswith("ok ") for line in text.splitlines())
    assert r"a\u000aok      rules" in text
    told = run(app, ["doctor", str(tmp_path), "--format", "json"]).stdout
    assert "\x9b" not in told
    assert "\u202e" not in told
    assert set(bad) - {"x" * 1_000_000} <= {one["service.name"] for one in json.loads(told)["services"]}


def test_a_hundred_services_are_told_of_in_short_and_what_helps_most_first(tmp_path: Path) -> None:
    for number in range(100):
        _capture(tmp_path, number, service=f"desk-{number}")
    told = _told(str(tmp_path), status=1)
    first = told["switch_on"][0]
    assert (first["setting"], first["agents"], len(first["services"])) == ("InstrumentationSettings(include_content=True)", 100, 100)
    assert first["unblinds"] == ["data_exfiltration"]
    text = run(app, ["doctor", str(tmp_path)]).stdout
    assert "and 50 services more" in text
    assert "for 100 agents of desk-" in text


def test_sampling_names_the_rules_that_count_too_little(tmp_path: Path) -> None:
    for number in range(40):
        _capture(tmp_path, number, span={"traceState": "ot=th:c"}, said={"gen_ai.tool.call.arguments": "{}"})
    told = _told(str(tmp_path))
    [agent] = told["agents"]
    assert (agent["sampling"]["kept_share"], agent["sampling"]["signs"]) == (0.25, {"the trace state": 40})
    effects = {one["signal"]: (one["effect"], one["detail"]) for one in agent["sampling"]["rules"]}
    assert effects["tool_call_burst"][0] == effects["error_spike"][0] == "undercounts"
    assert effects["error_spike"][1] == "more than 20 are seen from about 84 on"
    assert "until the usual is learnt" in effects["tool_call_burst"][1]
    assert effects["data_exfiltration"] == ("misses events", "about 25.00% of what it looks for comes")
    assert "OTEL_TRACES_SAMPLER=parentbased_always_on" in {one["setting"] for one in agent["remedies"]}
    text = run(app, ["doctor", str(tmp_path)]).stdout
    assert "sampled: as little as 25.00% of the traces were kept (the trace state, 40 times)" in text
    assert "sampled   tool_call_burst (high) undercounts" in text


def test_a_long_line_goes_on_below_its_text_on_a_terminal() -> None:
    env = {"NO_COLOR": "1", "FORCE_COLOR": "1", "COLUMNS": "60"}
    lines = run(app, ["doctor", str(CAPTURES / "langgraph_otelgenai.json")], env=env).stdout.splitlines()
    plain = [line.replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "") for line in lines]
    assert all(len(line) <= 60 for line in plain)
    assert any(line.startswith(" " * 12) and line.strip() for line in plain)
