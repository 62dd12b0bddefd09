"""docs/adapters.md and docs/guard-protocol.md tell what the code does: tables, examples, bounds and messages."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
from contain.hook import SECRET
from contain.scripted import Line
from contain.served import Server

from otel_ir.contain import ADAPTERS, build_adapters, guard_http, guard_hub, guard_wire
from otel_ir.contain.guard import GuardConfig
from otel_ir.contain.process import ProcessConfig
from otel_ir.contain.webhook import WebhookConfig
from otel_ir.model_lifecycle import ActionRequest
from otel_ir.respond import load_policy

DOCS = Path(__file__).parents[2] / "docs"
ADAPTERS_PAGE = (DOCS / "adapters.md").read_text(encoding="utf-8")
PROTOCOL = (DOCS / "guard-protocol.md").read_text(encoding="utf-8")
RESPONSE = (DOCS / "response.md").read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")]


def test_every_adapter_is_on_the_page() -> None:
    told = {row[0].strip("`") for row in rows(ADAPTERS_PAGE.partition("Use `guard`")[0])[1:]}
    assert told == set(ADAPTERS)


def test_examples_load(tmp_path: Path) -> None:
    found = blocks(ADAPTERS_PAGE, "yaml")
    assert len(found) == 2
    for text in found:
        (tmp_path / "response.yaml").write_text(text)
        build_adapters(*load_policy(tmp_path / "response.yaml"))


def test_tables_of_keys_are_complete_and_have_the_defaults() -> None:
    for name, kind in (("guard", GuardConfig), ("process", ProcessConfig)):
        told = {row[0].strip("`"): row[1] for row in rows(ADAPTERS_PAGE.partition(f"| key of `{name}`")[2].partition("\n\n")[0])}
        fields = {field.name: field.default for field in msgspec.structs.fields(kind) if field.name != "type"}
        assert told.keys() == fields.keys()
        for key, default in fields.items():
            if isinstance(default, int | float) and not isinstance(default, bool):
                assert float(told[key]) == default, key
            elif isinstance(default, tuple):
                assert told[key] == ", ".join(f"`{verb}`" for verb in default), key
            elif key == "retry":
                assert told[key] == f"`{{attempts: {default.attempts}, first: {default.first:g}, longest: {default.longest:g}}}`"


def test_keys_of_the_webhook_are_on_its_page() -> None:
    names = [field.name for field in msgspec.structs.fields(WebhookConfig) if field.name != "type"]
    assert not [name for name in names if f"`{name}`" not in RESPONSE and f"`{name}: " not in RESPONSE]


def test_bounds_are_those_of_the_code() -> None:
    told = [int(number) for _, number in rows(PROTOCOL.partition("<!-- bounds -->")[2].partition("<!-- /bounds -->")[0])[1:]]
    assert told == [
        guard_wire.MAX_BODY,
        guard_wire.MAX_TEXT,
        guard_wire.MAX_WAIT,
        guard_wire.MAX_RESTRICTIONS,
        guard_wire.MAX_PROBES,
        guard_wire.MAX_BLOCKED,
        guard_wire.MAX_AGENTS,
        guard_wire.MAX_FRAMEWORKS,
        guard_hub.MAX_PER_SERVICE,
        guard_hub.MAX_GUARDS,
        guard_hub.MAX_POLLS,
        guard_http.MAX_POLLS,
        guard_http.MAX_AT_WORK,
        guard_hub.LIVE_SECONDS,
    ]
    assert f"{guard_http.READ_SECONDS:g} s to arrive" in PROTOCOL


def keys(kind: type[msgspec.Struct]) -> set[str]:
    return {field.name for field in msgspec.structs.fields(kind)}


def test_messages_on_the_page_are_complete_and_taken(server: Server) -> None:
    register, state, report = (json.loads(text) for text in blocks(PROTOCOL, "json"))
    assert register.keys() == keys(guard_wire.Register)
    assert report.keys() == keys(guard_wire.Report)
    assert report["blocked"][0].keys() == keys(guard_wire.Blocked)
    assert report["probes"][0].keys() == keys(guard_wire.ProbeAnswer)
    assert state["restrictions"][0].keys() == keys(guard_wire.Restriction)
    assert state["probes"][0].keys() == keys(guard_wire.Probe)
    for key in (*register, *report, *state["restrictions"][0]):
        assert f"`{key}`" in PROTOCOL, key
    with closing(Line(server.port)) as line:
        assert line.ask("POST", "register", register)[::2] == (200, {"wait": 25})
        server.hub.put("", "helpdesk", msgspec.convert(state["restrictions"][0], guard_wire.Restriction))
        status, _, body = line.state(instance=register["instance"])
        assert (status, body["restrictions"]) == (200, state["restrictions"])
        assert line.ask("POST", "report", report)[0] == 204


def test_what_a_webhook_gets_is_on_its_page(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("OTEL_IR_WEBHOOK_SECRET", SECRET)
    (text,) = [text for text in blocks(RESPONSE, "json") if "agent.containment.requested" in text]
    told = json.loads(text)["data"]["action"]
    (tmp_path / "response.yaml").write_text(ADAPTERS["webhook"].about.example)
    (adapter,) = build_adapters(*load_policy(tmp_path / "response.yaml")).values()
    request = ActionRequest(incident_id="i", verb="revoke_tools", adapter="soc", mode="enforce", requested_at=1)
    assert told.keys() == adapter.preview(request, None)["body"]["data"]["action"].keys()
