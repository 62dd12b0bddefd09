"""What every adapter must do, whatever it acts through: runs over the table of adapters.

A new adapter brings a target (``contain/targets.py``): the real thing it acts on.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from contain.hook import SECRET
from contain.targets import TARGETS

from otel_ir.contain import ADAPTERS, Surroundings, build_adapters
from otel_ir.model import Alert
from otel_ir.model_lifecycle import ActionRequest
from otel_ir.respond import Adapter, Finding, Outcome, load_policy, target
from otel_ir.respond.contract import VERBS

T = TypeVar("T")


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


def built(thing: Any, folder: Path, around: Surroundings) -> Adapter:
    path = folder / "response.yaml"
    path.write_text(f"adapters:\n  it: {json.dumps(thing.section)}\n")
    return build_adapters(*load_policy(path), around)["it"]


@pytest.fixture
def adapter(thing: Any, tmp_path: Path) -> Adapter:
    return built(thing, tmp_path, thing.around)


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
        incident_id=f"INC-20260101000000-{number:06x}",
        alert_id=alert.alert_id,
        verb=adapter.verbs[0],
        adapter="it",
        mode="enforce",
        requested_at=1_767_225_600_000_000_000,
        target=target(alert),
    )
    return request, alert


def run(adapter: Adapter, what: Callable[[], Awaitable[T]]) -> T:
    async def then_close() -> T:
        try:
            return await what()
        finally:
            await adapter.close()
            await adapter.close()

    return asyncio.run(then_close())


def apply(adapter: Adapter, *requests: tuple[ActionRequest, Alert | None]) -> list[Outcome]:
    async def all_of_them() -> list[Outcome]:
        return [await adapter.apply(*request) for request in requests]

    return run(adapter, all_of_them)


async def applied(adapter: Adapter, request: ActionRequest, alert: Alert | None = None) -> ActionRequest:
    """The request as the ledger would give it back."""
    outcome = await adapter.apply(request, alert)
    assert outcome.result == "applied", outcome
    return replace(request, facts=outcome.facts)


async def found(adapter: Adapter, request: ActionRequest, result: str) -> Finding:
    """The finding as soon as it is ``result``: the target needs a moment to come back."""
    end = time.monotonic() + 20
    while (finding := await adapter.check(request)).result != result:
        assert time.monotonic() < end, finding
        await asyncio.sleep(0.02)
    return finding


def fit_to_show(detail: str, thing: Any) -> bool:
    return bool(detail) and "\n" not in detail and not any(secret in detail for secret in thing.secrets)


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
    (one,) = build_adapters(*load_policy(path)).values()
    assert one.about == about
    assert one.verbs
    assert set(one.verbs) <= set(about.verbs)
    assert one.concurrency >= 1
    assert one.time_limit > 0


def test_preview_sends_nothing_and_shows_no_secret(adapter: Adapter, thing: Any) -> None:
    request, alert = alert_and_request(adapter)
    first, again = adapter.preview(request, alert), adapter.preview(request, alert)
    assert first == again
    text = json.dumps(first)
    assert request.verb in text
    assert "helpdesk/triage" in text
    assert not any(secret in text for secret in thing.secrets)
    assert not thing.keys()
    assert adapter.preview(request, None)


def test_what_is_applied_can_be_read_back_and_let_go_of(adapter: Adapter, thing: Any) -> None:
    async def life() -> None:
        request, alert = alert_and_request(adapter)
        request = await applied(adapter, request, alert)
        assert thing.holds(request)
        finding = await adapter.check(request)
        assert finding.result == "in_force"
        assert fit_to_show(finding.detail, thing)
        for _ in range(2):
            outcome = await adapter.release(request, alert)
            assert outcome.result == "applied"
            assert fit_to_show(outcome.detail, thing)
        assert not thing.holds(request)
        assert (await adapter.check(request)).result != "in_force"

    run(adapter, life)


def test_a_person_may_ask_for_it_without_an_alert(adapter: Adapter, thing: Any) -> None:
    async def life() -> None:
        request = await applied(adapter, alert_and_request(adapter)[0])
        assert (await adapter.check(request)).result == "in_force"
        assert (await adapter.release(request, None)).result == "applied"

    run(adapter, life)


def test_a_target_that_lies_is_never_in_force(adapter: Adapter, thing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It acknowledges and does nothing: whoever believes that calls contained what runs on."""
    thing.lie(monkeypatch)

    async def life() -> None:
        request, alert = alert_and_request(adapter)
        outcome = await adapter.apply(request, alert)
        assert outcome.result in ("applied", "retry")
        assert not any(word in outcome.detail for word in ("contained", "verified"))
        for _ in range(3):
            assert (await adapter.check(replace(request, facts=outcome.facts))).result != "in_force"

    run(adapter, life)


def test_the_same_action_twice_has_one_key(adapter: Adapter, thing: Any) -> None:
    same, other = alert_and_request(adapter), alert_and_request(adapter, 2)
    outcomes = apply(adapter, same, same, other)
    assert [outcome.result for outcome in outcomes] == ["applied"] * 3
    assert thing.keys() == {same[0].action_id, other[0].action_id}


def test_what_another_action_holds_stays_held(adapter: Adapter, thing: Any) -> None:
    async def life() -> None:
        first = await applied(adapter, *alert_and_request(adapter))
        second = await applied(adapter, *alert_and_request(adapter, 2))
        assert (await adapter.release(first, None)).result == "applied"
        assert thing.holds(second)
        assert (await adapter.check(second)).result == "in_force"
        assert (await adapter.release(second, None)).result == "applied"
        assert not thing.holds(second)

    run(adapter, life)


def test_releasing_what_was_never_applied(adapter: Adapter, thing: Any) -> None:
    request, alert = alert_and_request(adapter)
    assert run(adapter, lambda: adapter.release(request, alert)).result == "applied"
    assert not thing.holds(request)


def test_a_target_that_is_contained_already(adapter: Adapter, thing: Any) -> None:
    async def life() -> None:
        request, alert = alert_and_request(adapter)
        thing.contain(request)
        request = await applied(adapter, request, alert)
        assert (await adapter.check(request)).result == "in_force"

    run(adapter, life)


def test_a_refusal_says_why(adapter: Adapter, thing: Any) -> None:
    thing.refuse()
    (outcome,) = apply(adapter, alert_and_request(adapter))
    assert outcome.result == thing.refusal
    assert fit_to_show(outcome.detail, thing)


def test_a_target_that_is_gone_is_no_exception(adapter: Adapter, thing: Any) -> None:
    thing.gone()

    async def life() -> None:
        request, alert = alert_and_request(adapter)
        outcome = await adapter.apply(request, alert)
        assert outcome.result == "retry"
        assert fit_to_show(outcome.detail, thing)
        assert (await adapter.check(request)).result == "unknown"
        assert fit_to_show((await adapter.release(request, alert)).detail, thing)

    run(adapter, life)


def test_cut_off_in_the_middle_it_can_be_used_again(adapter: Adapter, thing: Any) -> None:
    thing.hang()
    request = alert_and_request(adapter)

    async def twice() -> Outcome:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await adapter.apply(*request)
        thing.recover()
        return await adapter.apply(*request)

    assert run(adapter, twice).result == "applied"


def test_as_many_at_once_as_it_says(adapter: Adapter, thing: Any) -> None:
    thing.hang()

    async def together() -> list[Outcome]:
        tasks = [asyncio.create_task(adapter.apply(*alert_and_request(adapter, n))) for n in range(adapter.concurrency)]
        async with asyncio.timeout(10):
            while len(thing.keys()) < adapter.concurrency:
                await asyncio.sleep(0.01)
        thing.recover()
        return await asyncio.gather(*tasks)

    assert {outcome.result for outcome in run(adapter, together)} == {"applied"}


def test_after_a_restart_it_is_known_what_is_held(adapter: Adapter, thing: Any, tmp_path: Path) -> None:
    request = run(adapter, lambda: applied(adapter, *alert_and_request(adapter)))
    again = built(thing, tmp_path, thing.restart())
    again.restore([request])

    async def life() -> None:
        await found(again, request, "in_force")
        assert thing.holds(request)
        assert (await again.apply(request, None)).result == "applied"
        assert (await again.release(request, None)).result == "applied"
        assert not thing.holds(request)

    run(again, life)


def test_preflight_finds_out_before_the_incident(adapter: Adapter, thing: Any) -> None:
    async def life() -> None:
        readiness = await adapter.preflight()
        assert readiness.ready, readiness
        assert fit_to_show(readiness.detail, thing)
        assert not thing.keys()

    run(adapter, life)


def test_closing_what_was_never_used(adapter: Adapter) -> None:
    assert apply(adapter) == []
