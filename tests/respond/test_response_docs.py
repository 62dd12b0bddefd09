"""docs/response.md says what is so: its examples load, its code verifies a real call, its tables are complete."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from contain.hook import SECRET

from otel_ir.contain import Webhook, WebhookConfig, build_adapters
from otel_ir.model_lifecycle import ActionRequest, ActionState
from otel_ir.respond import load_policy, target
from otel_ir.respond.contract import VERBS
from otel_ir.respond.policy import MatchConfig, SafetyConfig

PAGE = (Path(__file__).parents[2] / "docs" / "response.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_yaml_examples_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_IR_WEBHOOK_SECRET", SECRET)
    assert len(blocks("yaml")) == 2
    for text in blocks("yaml"):
        (tmp_path / "response.yaml").write_text(text)
        build_adapters(*load_policy(tmp_path / "response.yaml"))


def test_the_receiver_of_the_page_accepts_what_is_sent(world: Any, alert: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("python")
    names: dict[str, Any] = {}
    exec(code, names)
    adapter = Webhook(WebhookConfig(url=world.hook.url, secret_env="HOOK_SECRET"), clock=time.time_ns)
    one = alert()
    request = ActionRequest(
        incident_id="INC-1",
        alert_id=one.alert_id,
        verb="revoke_tools",
        adapter="soc",
        mode="enforce",
        requested_at=time.time_ns(),
        target=target(one),
    )

    async def twice() -> None:
        await adapter.apply(request, one)
        await adapter.apply(request, one)
        await adapter.close()

    asyncio.run(twice())
    assert [names["receive"](call.headers, call.body, SECRET) for call in world.hook.calls] == [204, 204]
    assert capsys.readouterr().out == "revoke_tools helpdesk/agent-1\n"


def test_tables_are_complete() -> None:
    assert dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", PAGE.partition("| verb |")[2].partition("Each verb")[0], re.MULTILINE)) == VERBS
    for kind in (SafetyConfig, WebhookConfig, MatchConfig):
        for field in msgspec.structs.fields(kind):
            assert f"`{field.name}`" in PAGE or f"{field.name}: " in PAGE, field.name
    for state in ActionState:
        assert f"`{state.value}`" in PAGE, state
