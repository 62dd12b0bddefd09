"""What every adapter must do, whatever it acts through: runs over the table of adapters.

A new adapter brings a ``Target`` here: the real thing it acts on, which can obey, refuse, hang, lie and be gone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contain.hook import SECRET, Hook, reply

from otel_ir.contain import ADAPTERS, build_adapters
from otel_ir.model import Alert
from otel_ir.model_lifecycle import ActionRequest
from otel_ir.respond import Adapter, Outcome, load_policy, target
from otel_ir.respond.contract import VERBS


class WebhookTarget:
    """The system behind a webhook."""

    def __init__(self) -> None:
        self._hook = Hook()
        self.section = {"type": "webhook", "url": self._hook.url, "secret_env": "HOOK_SECRET", "timeout": 5}
        self.secrets = (SECRET, SECRET.removeprefix("whsec_"), "secret-path")

    def refuse(self) -> None:
        self._hook.then = reply(403, b"not allowed")

    def hang(self) -> None:
        self._hook.then = self._hook.held(reply(204))

    def gone(self) -> None:
        self._hook.close()

    def recover(self) -> None:
        self._hook.then = reply(204)
        self._hook.release.set()

    def keys(self) -> list[str]:
        """The idempotency key of every request that arrived."""
        return [call.headers["webhook-id"] for call in self._hook.calls]

    def close(self) -> None:
        self._hook.close()


TARGETS: dict[str, Any] = {"webhook": WebhookTarget}


@pytest.fixture(params=sorted(ADAPTERS))
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("HOOK_SECRET", "OTEL_IR_WEBHOOK_SECRET"):
        monkeypatch.setenv(name, SECRET)
    return str(request.param)


@pytest.fixture
def thing(kind: str) -> Iterator[Any]:
    thing = TARGETS[kind]()
    yield thing
    thing.close()


@pytest.fixture
def adapter(thing: Any, tmp_path: Path) -> Adapter:
    path = tmp_path / "response.yaml"
    path.write_text(f"adapters:\n  it: {json.dumps(thing.section)}\n")
    return build_adapters(*load_policy(path))["it"]


def alert_and_request(adapter: Adapter, number: int = 1) -> tuple[ActionRequest, Alert]:
    alert = Alert(
        alert_id=f"{number:032x}",
        rule_id="r",
        signal="s",
        ruleset="f" * 64,
        severity="critical",
        stage="compromise",
        title="t",
        description="d",
        service="helpdesk",
        agent_id="helpdesk/triage",
        agent_id_source="own",
        trace_id="0af7651916cd43dd8448eb211c80319c",
    )
    request = ActionRequest(
        alert_id=alert.alert_id,
        verb=adapter.verbs[0],
        adapter="it",
        mode="enforce",
        requested_at=1_767_225_600_000_000_000,
        target=target(alert),
    )
    return request, alert


def run(adapter: Adapter, *requests: tuple[ActionRequest, Alert]) -> list[Outcome]:
    async def all_of_them() -> list[Outcome]:
        try:
            return [await adapter.apply(*request) for request in requests]
        finally:
            await adapter.close()
            await adapter.close()

    return asyncio.run(all_of_them())


def test_every_adapter_has_a_target_to_be_tested_on() -> None:
    assert TARGETS.keys() == ADAPTERS.keys()


def test_it_describes_itself(kind: str, tmp_path: Path) -> None:
    about = ADAPTERS[kind].about
    assert about.name == kind
    assert about.summary
    assert about.permissions
    assert about.verbs
    assert set(about.verbs) <= set(VERBS)
    path = tmp_path / "response.yaml"
    path.write_text(about.example)
    (built,) = build_adapters(*load_policy(path)).values()
    assert built.about is about
    assert built.verbs
    assert set(built.verbs) <= set(about.verbs)
    assert built.concurrency >= 1
    assert built.time_limit > 0


def test_preview_sends_nothing_and_shows_no_secret(adapter: Adapter, thing: Any) -> None:
    request, alert = alert_and_request(adapter)
    first, again = adapter.preview(request, alert), adapter.preview(request, alert)
    assert first == again
    text = json.dumps(first)
    assert request.verb in text
    assert "helpdesk/triage" in text
    assert not any(secret in text for secret in thing.secrets)
    assert not thing.keys()


def test_an_acknowledgment_is_applied_and_never_more(adapter: Adapter, thing: Any) -> None:
    """The target may lie: it acknowledges and does nothing. Without a check nobody may call that contained."""
    (outcome,) = run(adapter, alert_and_request(adapter))
    assert outcome.result == "applied"
    assert not any(word in outcome.detail for word in ("contained", "verified"))


def test_the_same_action_twice_has_one_key(adapter: Adapter, thing: Any) -> None:
    same = alert_and_request(adapter)
    outcomes = run(adapter, same, same, alert_and_request(adapter, 2))
    assert [outcome.result for outcome in outcomes] == ["applied"] * 3
    first, second, other = thing.keys()
    assert first == second == same[0].action_id
    assert other != first


def test_a_refusal_is_failed(adapter: Adapter, thing: Any) -> None:
    thing.refuse()
    (outcome,) = run(adapter, alert_and_request(adapter))
    assert outcome.result == "failed"
    assert outcome.detail
    assert "\n" not in outcome.detail
    assert not any(secret in outcome.detail for secret in thing.secrets)


def test_a_target_that_is_gone_is_no_exception(adapter: Adapter, thing: Any) -> None:
    thing.gone()
    (outcome,) = run(adapter, alert_and_request(adapter))
    assert outcome.result == "retry"
    assert not any(secret in outcome.detail for secret in thing.secrets)


def test_cut_off_in_the_middle_it_can_be_used_again(adapter: Adapter, thing: Any) -> None:
    thing.hang()
    request = alert_and_request(adapter)

    async def twice() -> Outcome:
        try:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await adapter.apply(*request)
            thing.recover()
            return await adapter.apply(*request)
        finally:
            await adapter.close()

    assert asyncio.run(twice()).result == "applied"


def test_as_many_at_once_as_it_says(adapter: Adapter, thing: Any) -> None:
    thing.hang()

    async def together() -> list[Outcome]:
        tasks = [asyncio.create_task(adapter.apply(*alert_and_request(adapter, n))) for n in range(adapter.concurrency)]
        async with asyncio.timeout(10):
            while len(thing.keys()) < adapter.concurrency:
                await asyncio.sleep(0.01)
        thing.recover()
        outcomes = await asyncio.gather(*tasks)
        await adapter.close()
        return outcomes

    assert {outcome.result for outcome in asyncio.run(together())} == {"applied"}


def test_closing_what_was_never_used(adapter: Adapter) -> None:
    assert run(adapter) == []
