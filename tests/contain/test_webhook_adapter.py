"""The webhook against a real HTTP server: what it sends, and what it makes of every kind of answer."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from contain.hook import SECRET, Hook, certificate, reply
from standardwebhooks import WebhookVerificationError

from otel_ir.contain import Webhook, WebhookConfig
from otel_ir.errors import ConfigError
from otel_ir.model import Alert, SpanRef
from otel_ir.model_lifecycle import ActionRequest
from otel_ir.respond import Finding, Outcome, Readiness, target

ALERT = Alert(
    alert_id="a" * 32,
    rule_id="rule-1",
    signal="data_exfiltration",
    ruleset="f" * 64,
    severity="critical",
    stage="compromise",
    title="Large outbound body",
    description='<script>alert("é")</script>',
    service="helpdesk",
    agent_id="helpdesk/triage",
    agent_id_source="own",
    conversation_id="conv-7",
    tool_name="send_email",
    trace_id="0af7651916cd43dd8448eb211c80319c",
    span_id="b7ad6b7169203331",
    event_time=1_767_225_600_000_000_000,
    contributing=(SpanRef("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"),),
)
REQUEST = ActionRequest(
    incident_id="INC-20260101000000-aaaaaa",
    alert_id=ALERT.alert_id,
    verb="revoke_tools",
    adapter="soc",
    mode="enforce",
    requested_at=1_767_225_601_000_000_000,
    target=target(ALERT),
)


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # must not be used
    monkeypatch.delenv("NO_PROXY", raising=False)


def webhook(url: str, **changes: Any) -> Webhook:
    return Webhook(WebhookConfig(url=url, **({"secret_env": "HOOK_SECRET", "timeout": 10} | changes)), clock=time.time_ns)


def apply(adapter: Webhook) -> Outcome:
    async def once() -> Outcome:
        try:
            return await adapter.apply(REQUEST, ALERT)
        finally:
            await adapter.close()

    return asyncio.run(once())


def test_the_request_is_signed_and_says_whom_and_why(hook: Hook) -> None:
    outcome = apply(webhook(hook.url))
    assert outcome == Outcome("applied", f"http://127.0.0.1:{hook.server.server_port} answered 204")
    (call,) = hook.calls
    assert call.path == "/hooks/secret-path"
    assert call.headers["webhook-id"] == REQUEST.action_id
    assert call.headers["content-type"] == "application/json"
    payload = call.verified()
    assert payload["type"] == "agent.containment.requested"
    assert payload["timestamp"] == "2026-01-01T00:00:01.000000000Z"
    assert payload["data"]["action"] == {
        "id": REQUEST.action_id,
        "incident_id": "INC-20260101000000-aaaaaa",
        "verb": "revoke_tools",
        "adapter": "soc",
        "mode": "enforce",
        "reason": "",
        "tools": None,
        "read_only": [],
        "expires_at": None,
    }
    assert payload["data"]["target"] == {
        "service.name": "helpdesk",
        "otel_ir.agent.id": "helpdesk/triage",
        "otel_ir.agent.id_source": "own",
        "gen_ai.conversation.id": "conv-7",
        "trace_id": ALERT.trace_id,
        "span_id": ALERT.span_id,
    }
    alert = payload["data"]["alert"]
    assert alert["alert_id"] == ALERT.alert_id
    assert alert["agent.threat.detection.severity"] == "critical"
    assert alert["description"] == ALERT.description
    assert alert["gen_ai.tool.name"] == "send_email"
    assert alert["contributing_span_ids"] == ["b7ad6b7169203331"]


def test_no_secret_reaches_a_log(hook: Hook, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    hook.script = [reply(500)]
    apply(webhook(hook.url))
    apply(webhook(hook.url))
    assert "secret-path" not in caplog.text
    assert SECRET not in caplog.text
    assert "v1," not in caplog.text


def test_another_secret_or_a_changed_body_does_not_verify(hook: Hook) -> None:
    apply(webhook(hook.url))
    (call,) = hook.calls
    with pytest.raises(WebhookVerificationError):
        call.verified("whsec_" + "b3RoZXIh" * 5)
    call.body = call.body.replace(b"revoke_tools", b"rotate_tools")
    with pytest.raises(WebhookVerificationError):
        call.verified()


def test_two_secrets_sign_both(hook: Hook, tmp_path: Path) -> None:
    other = "whsec_" + "b3RoZXIh" * 5
    (tmp_path / "secret").write_text(f"{SECRET}\n{other}\n")
    apply(webhook(hook.url, secret_env=None, secret_file=str(tmp_path / "secret")))
    (call,) = hook.calls
    assert call.verified(SECRET) == call.verified(other)


MEANING = {
    "applied": (200, 202, 204),
    "failed": (400, 401, 404, 409, 410, 422),
    "retry": (408, 425, 429, 500, 502, 503, 504),
}


@pytest.mark.parametrize(("status", "result"), [(status, result) for result, statuses in MEANING.items() for status in statuses])
def test_what_a_status_means(hook: Hook, status: int, result: str) -> None:
    hook.then = reply(status, b"no such agent")
    outcome = apply(webhook(hook.url))
    assert outcome.result == result
    assert str(status) in outcome.detail
    assert ("no such agent" in outcome.detail) == (result != "applied")
    assert "secret-path" not in outcome.detail


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(hook: Hook, status: int) -> None:
    hook.then = reply(status, location=hook.url)
    outcome = apply(webhook(hook.url))
    assert outcome.result == "failed"
    assert "redirects are not followed" in outcome.detail
    assert len(hook.calls) == 1


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7.0), ("0", 0.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("soon", None), ("-1", None)]
)
def test_retry_after(hook: Hook, value: str, seconds: float | None) -> None:
    hook.then = reply(503, retry_after=value)
    assert apply(webhook(hook.url)).retry_after == seconds


def test_retry_after_as_a_date_in_the_future(hook: Hook) -> None:
    hook.then = reply(503, retry_after="Fri, 31 Dec 2100 23:59:59 GMT")
    asked = apply(webhook(hook.url)).retry_after
    assert asked
    assert asked > 1_000_000


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    hook = Hook((cert, key))
    outcome = apply(webhook(hook.url))
    assert outcome.result == "retry"
    assert "CERTIFICATE_VERIFY_FAILED" in outcome.detail
    assert not hook.calls
    assert apply(webhook(hook.url, ca_file=str(cert))).result == "applied"
    hook.close()


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    outcome = apply(webhook(f"http://127.0.0.1:{port}/x"))
    assert outcome.result == "retry"
    assert outcome.detail.startswith(f"http://127.0.0.1:{port}: ConnectError")


def test_no_answer_within_the_time_limit(hook: Hook) -> None:
    hook.then = hook.held(reply(204))
    assert apply(webhook(hook.url, timeout=0.2)).result == "retry"


def test_a_hung_up_connection_is_no_acknowledgment(hook: Hook) -> None:
    def hang_up(handler: BaseHTTPRequestHandler) -> None:
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True

    hook.then = hang_up
    assert apply(webhook(hook.url)).result == "retry"


def test_an_answer_that_is_no_http(hook: Hook) -> None:
    def noise(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"\x00\xff" * 1000)
        handler.close_connection = True

    hook.then = noise
    assert apply(webhook(hook.url)).result == "retry"


@pytest.mark.parametrize(("status", "result"), [(200, "applied"), (400, "failed")])
def test_an_endless_answer_is_not_read(hook: Hook, status: int, result: str) -> None:
    written = 0

    def endless(handler: BaseHTTPRequestHandler) -> None:
        nonlocal written
        handler.send_response(status)
        handler.end_headers()
        while not hook.release.is_set():
            written += handler.wfile.write(b"\x1b[31mx" * 10_000)

    hook.then = endless
    started = time.monotonic()
    outcome = apply(webhook(hook.url))
    assert time.monotonic() - started < 5
    assert outcome.result == result
    assert len(outcome.detail) < 300
    assert "\x1b" not in outcome.detail


def test_a_dripping_refusal_is_still_a_refusal(hook: Hook) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(422)
        handler.send_header("content-length", "1000")
        handler.end_headers()
        hook.release.wait(30)

    hook.then = drip
    assert apply(webhook(hook.url)).result == "failed"


def test_preview_shows_what_would_be_sent_and_no_secret() -> None:
    adapter = webhook("https://soc.example.com:8443/hooks/T0KEN?key=hidden")
    shown = json.dumps(adapter.preview(REQUEST, ALERT))
    assert "https://soc.example.com:8443" in shown
    assert REQUEST.action_id in shown
    assert "revoke_tools" in shown
    for secret in ("T0KEN", "hidden", SECRET, SECRET.removeprefix("whsec_")):
        assert secret not in shown + repr(adapter) + repr(WebhookConfig(url="https://h/T0KEN", secret_env="X"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"url": "http://soc.example.com/x"}, "must be https"),
        ({"url": "ftp://soc.example.com/x"}, "https:// address"),
        ({"url": "soc.example.com"}, "https:// address"),
        ({"url": "https://user:pw@soc.example.com/x"}, "user name and password"),
        ({"url": "https://[::1"}, "Invalid"),
        ({"secret_env": None}, "one of secret_env"),
        ({"secret_file": "x"}, "one of secret_env"),
        ({"timeout": 0}, "timeout"),
        ({"concurrency": 0}, "concurrency"),
    ],
)
def test_config_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WebhookConfig(**({"url": "https://h/x", "secret_env": "HOOK_SECRET"} | changes))


@pytest.mark.parametrize("url", ["http://localhost:1/x", "http://127.8.8.8/x", "http://[::1]:1/x"])
def test_plain_http_to_this_host_is_allowed(url: str) -> None:
    assert WebhookConfig(url=url, secret_env="HOOK_SECRET").url == url


@pytest.mark.parametrize("secret", ["", "  ", "whsec_", "whsec_c2hvcnQ=", "not base64!", "whsec_" + "A" * 200])
def test_a_weak_or_broken_secret_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("HOOK_SECRET", secret)
    with pytest.raises(ConfigError, match="secret_env HOOK_SECRET") as caught:
        webhook("https://h/x")
    shown = secret.removeprefix("whsec_").strip()
    assert not shown or shown not in str(caught.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="secret_file"):
        webhook("https://h/x", secret_env=None, secret_file=str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="ca_file"):
        webhook("https://h/x", ca_file=str(tmp_path / "none"))


# Reading back, letting go, and finding out before


def check(adapter: Webhook) -> Finding:
    async def once() -> Finding:
        try:
            return await adapter.check(REQUEST)
        finally:
            await adapter.close()

    return asyncio.run(once())


def checked(hook: Hook, **changes: Any) -> Webhook:
    return webhook(hook.url, check_url=hook.url + "/check?key=hidden", **changes)


def test_the_question_is_signed_and_each_is_another_message(hook: Hook) -> None:
    hook.then = reply(200, json.dumps({"action_id": REQUEST.action_id, "state": "in_force", "more": 1}).encode())
    for _ in range(2):
        assert check(checked(hook)) == Finding("in_force", f"http://127.0.0.1:{hook.server.server_port} says in_force")
    first, second = hook.calls
    assert first.path == "/hooks/secret-path/check?key=hidden"
    assert first.verified()["type"] == "agent.containment.check"
    assert first.verified()["data"]["action"]["id"] == REQUEST.action_id
    assert first.headers["webhook-id"].startswith(f"{REQUEST.action_id}-check-")
    assert first.headers["webhook-id"] != second.headers["webhook-id"]


ANSWERS = {
    "in_force": [b'{"action_id": "%b", "state": "in_force"}'],
    "not_in_force": [b' {"state": "not_in_force", "action_id": "%b"} '],
    "unknown": [
        b"",
        b"ok",
        b"[]",
        b"{}",
        b'{"action_id": "%b"}',
        b'{"action_id": "%b", "state": "contained"}',
        b'{"action_id": "%b", "state": true}',
        b'{"action_id": "other", "state": "in_force"}',
        b'{"state": "in_force"}',
        b"[" * 4096,
        b"\xff\xfe",
        b'{"action_id": "%b", "x": "' + b"a" * 5000 + b'", "state": "in_force"}',
    ],
}


@pytest.mark.parametrize(("result", "body"), [(result, body) for result, bodies in ANSWERS.items() for body in bodies])
def test_only_a_clear_answer_about_this_action_counts(hook: Hook, result: str, body: bytes) -> None:
    hook.then = reply(200, body.replace(b"%b", REQUEST.action_id.encode()))
    finding = check(checked(hook))
    assert finding.result == result
    assert "hidden" not in finding.detail


@pytest.mark.parametrize("status", [201, 204, 302, 401, 404, 500])
def test_another_status_is_no_answer(hook: Hook, status: int) -> None:
    hook.then = reply(status, json.dumps({"action_id": REQUEST.action_id, "state": "in_force"}).encode(), location=hook.url)
    assert check(checked(hook)).result == "unknown"
    assert len(hook.calls) == 1


def test_no_answer_in_time_is_unknown(hook: Hook) -> None:
    hook.then = hook.held(reply(204))
    finding = check(checked(hook, timeout=0.2))
    assert finding.result == "unknown"
    assert "hidden" not in finding.detail


def test_without_a_check_url_nothing_is_asked(hook: Hook) -> None:
    assert check(webhook(hook.url)) == Finding("unknown", "no check_url is configured")
    assert not hook.calls
    about = webhook(hook.url).about
    assert (about.check, about.reversible) == ("", False)
    assert checked(hook).about.check
    assert checked(hook, reversible=True).about.reversible


def test_the_release_is_a_message_of_its_own(hook: Hook) -> None:
    adapter = webhook(hook.url)

    async def twice() -> list[Outcome]:
        try:
            return [await adapter.release(REQUEST, alert) for alert in (ALERT, None)]
        finally:
            await adapter.close()

    assert [outcome.result for outcome in asyncio.run(twice())] == ["applied"] * 2
    first, second = hook.calls
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == f"{REQUEST.action_id}-release"
    payload = first.verified()
    assert payload["type"] == "agent.containment.released"
    assert payload["data"]["action"]["id"] == REQUEST.action_id
    assert payload["data"]["alert"]["alert_id"] == ALERT.alert_id
    assert second.verified()["data"]["alert"] is None


def preflight(adapter: Webhook) -> Readiness:
    return asyncio.run(adapter.preflight())


def test_preflight_connects_and_sends_nothing(hook: Hook, tmp_path: Path) -> None:
    readiness = preflight(checked(hook))
    assert readiness == Readiness(True, f"connected to http://127.0.0.1:{hook.server.server_port}; nothing was sent")
    assert not hook.calls
    cert, key = certificate(tmp_path)
    secure = Hook((cert, key))
    try:
        refused = preflight(webhook(secure.url))
        assert not refused.ready
        assert "certificate" in refused.detail.lower()
        assert preflight(webhook(secure.url, ca_file=str(cert))).ready
        assert not secure.calls
    finally:
        secure.close()


def test_preflight_where_nobody_is(hook: Hook) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{free.getsockname()[1]}/secret-path"
    for adapter in (webhook(nowhere), webhook(hook.url, check_url=nowhere), webhook(hook.url, proxy=nowhere)):
        readiness = preflight(adapter)
        assert not readiness.ready
        assert "cannot be reached" in readiness.detail
        assert "secret-path" not in readiness.detail
    assert not preflight(webhook("https://no-such-host.invalid/x")).ready
    assert "the proxy" in preflight(webhook("https://no-such-host.invalid/x", proxy=hook.url)).detail


def test_a_check_url_is_examined_too() -> None:
    with pytest.raises(ValueError, match="check_url: must be https"):
        WebhookConfig(url="https://h/x", check_url="http://h/x", secret_env="HOOK_SECRET")
