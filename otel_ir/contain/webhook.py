"""Asks another system to act, by an HTTP request that is signed as Standard Webhooks says (github.com/standard-webhooks)."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
import msgspec

from otel_ir.contain.webhook_message import beginning, one_line, seconds_until, signed, signers
from otel_ir.errors import ConfigError
from otel_ir.model import Alert
from otel_ir.model_lifecycle import ActionRequest
from otel_ir.respond import About, Finding, Outcome, Readiness, RetryConfig, Verb
from otel_ir.timefmt import rfc3339

_RETRY = frozenset({408, 425, 429})
"""With 5xx: statuses that may be different next time (RFC 9110; RFC 8470 for 425; RFC 6585 for 429)."""


class WebhookConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Section of response.yaml with ``type: webhook``.

    The secret is not written there but named: ``secret_env`` (an environment variable) or ``secret_file``. It holds one secret,
    ``whsec_`` and base64 of 24 to 64 bytes, or several with spaces between: each signs, so that receivers can change over.
    ``allow_http`` permits plain http to other hosts than this one. ``timeout`` (seconds) bounds one attempt as a whole.
    ``ca_file`` replaces the usual certificate authorities. ``proxy`` is the only proxy used: none is taken from the environment.
    ``check_url`` is asked whether an action holds; without it none is ever verified. ``reversible``: the receiver undoes an
    action when it is told that it is released.
    """

    url: str
    type: Literal["webhook"] = "webhook"
    secret_env: str | None = None
    secret_file: str | None = None
    verbs: tuple[Verb, ...] = ("revoke_tools", "isolate_network", "pause_agent", "rotate_credentials")
    timeout: float = 10.0
    concurrency: int = 4
    retry: RetryConfig = RetryConfig()
    allow_http: bool = False
    ca_file: str | None = None
    proxy: str | None = None
    check_url: str | None = None
    reversible: bool = False

    def __post_init__(self) -> None:
        _examine("url", self.url, self.allow_http)
        if self.check_url is not None:
            _examine("check_url", self.check_url, self.allow_http)
        if (self.secret_env is None) == (self.secret_file is None):
            raise ValueError("one of secret_env and secret_file is needed")
        if not 0 < self.timeout <= 300 or not 1 <= self.concurrency <= 64:
            raise ValueError("timeout must be above 0 and at most 300 seconds, concurrency 1 to 64")

    def __repr__(self) -> str:
        return f"WebhookConfig(url={self.origin!r})"

    @property
    def origin(self) -> str:
        """``https://host:port``: paths and queries of such addresses are often secrets themselves."""
        return _origin(self.url)


ABOUT = About(
    name="webhook",
    summary="asks another system to act, by a signed HTTP request; 2xx means that it took the request on",
    verbs=("revoke_tools", "read_only_tools", "isolate_network", "pause_agent", "rotate_credentials"),
    needs=(),
    permissions="a secret shared with the receiver; network access to its address",
    reversible=True,
    check="with check_url: a signed question, which the receiver answers with whether the action is in force; without: none",
    example="""\
adapters:
  soc:
    type: webhook
    url: https://soc.example.com/hooks/otel-ir
    secret_env: OTEL_IR_WEBHOOK_SECRET
    verbs: [revoke_tools, isolate_network, pause_agent, rotate_credentials]
    check_url: https://soc.example.com/hooks/otel-ir/check
    reversible: true
    timeout: 10
    retry: {attempts: 6, first: 0.5, longest: 30}
""",
)


class Webhook:
    """The adapter. Raises ``ConfigError`` when the secret or the certificate file cannot be used."""

    def __init__(self, config: WebhookConfig, *, clock: Callable[[], int]) -> None:
        # The HTTP client logs addresses and headers, and in these there are secrets.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._config, self._clock = config, clock
        self._signers = signers(config.secret_env, config.secret_file)
        try:
            self._verify = httpx.create_ssl_context(verify=True, trust_env=False)
            if config.ca_file:
                self._verify = ssl.create_default_context(cafile=config.ca_file)
        except OSError as error:
            raise ConfigError(f"ca_file {config.ca_file}: {error.strerror or error}") from None
        self._client: httpx.AsyncClient | None = None
        self._about = replace(ABOUT, check=ABOUT.check if config.check_url else "", reversible=config.reversible)

    @property
    def about(self) -> About:
        """What it can do as it is configured."""
        return self._about

    @property
    def verbs(self) -> Sequence[str]:
        """As configured."""
        return self._config.verbs

    @property
    def concurrency(self) -> int:
        """As configured."""
        return self._config.concurrency

    @property
    def time_limit(self) -> float:
        """As configured."""
        return self._config.timeout

    @property
    def retry(self) -> RetryConfig:
        """As configured."""
        return self._config.retry

    def preview(self, request: ActionRequest, alert: Alert | None) -> Mapping[str, Any]:
        """The request without signature, path and query."""
        return {"method": "POST", "to": self._config.origin, "webhook-id": request.action_id, "body": _requested(request, alert)}

    async def apply(self, request: ActionRequest, alert: Alert | None) -> Outcome:
        """One signed request. The same action has the same ``webhook-id`` whenever it is sent."""
        return await self._send(request.action_id, _requested(request, alert))

    async def check(self, request: ActionRequest) -> Finding:
        """Asks ``check_url``. Anything but a clear answer about this very action is ``unknown``."""
        url = self._config.check_url
        if url is None:
            return Finding("unknown", "no check_url is configured")
        now = self._clock()
        body = msgspec.json.encode(_message("agent.containment.check", now, request, None))
        headers = signed(self._signers, f"{request.action_id}-check-{now}", body, now)
        place = _origin(url)
        try:
            async with asyncio.timeout(self._config.timeout), self._connected().stream("POST", url, content=body, headers=headers) as reply:
                text = await beginning(reply)
        except (TimeoutError, httpx.HTTPError) as error:
            return Finding("unknown", f"{place}: {type(error).__name__}: {str(error)[:200]}")
        if reply.status_code != 200:
            return Finding("unknown", f"{place} answered {reply.status_code}")
        try:
            answer = msgspec.json.decode(text, type=_Answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return Finding("unknown", f"{place} answered something else than an action_id and a state: {one_line(text)}")
        if answer.action_id != request.action_id:
            return Finding("unknown", f"{place} answered about another action")
        return Finding(answer.state, f"{place} says {answer.state}")

    async def release(self, request: ActionRequest, alert: Alert | None) -> Outcome:
        """One signed request with the ``webhook-id`` of the action and ``-release``. A receiver that knows no such action has let go."""
        return await self._send(f"{request.action_id}-release", _message("agent.containment.released", self._clock(), request, alert))

    async def preflight(self) -> Readiness:
        """Resolves, connects and agrees on TLS, and sends nothing."""
        urls = [self._config.proxy] if self._config.proxy else [url for url in (self._config.url, self._config.check_url) if url]
        for url in urls:
            try:
                async with asyncio.timeout(self._config.timeout):
                    await self._touch(url)
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
                return Readiness(False, f"{_origin(url)} cannot be reached: {reason[:200]}")
        through = " (the proxy; what is behind it was not tried)" if self._config.proxy else ""
        return Readiness(True, f"connected to {', '.join(dict.fromkeys(map(_origin, urls)))}{through}; nothing was sent")

    def restore(self, held: Sequence[ActionRequest]) -> None:
        """Nothing to take over: the receiver knows."""

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client:
            await client.aclose()

    def _connected(self) -> httpx.AsyncClient:
        if self._client is None:
            # trust_env=False: neither a proxy nor a netrc password from the environment. A redirect is an answer, not an
            # address: what is signed and sent goes to the operator's URL or nowhere. `Responder` sets the time limit of the whole.
            self._client = httpx.AsyncClient(
                verify=self._verify,
                trust_env=False,
                follow_redirects=False,
                proxy=self._config.proxy,
                timeout=self._config.timeout,
                limits=httpx.Limits(max_connections=self._config.concurrency, keepalive_expiry=30.0),
            )
        return self._client

    async def _send(self, message_id: str, message: Mapping[str, Any]) -> Outcome:
        body = msgspec.json.encode(message)
        headers = signed(self._signers, message_id, body, self._clock())
        try:
            async with self._connected().stream("POST", self._config.url, content=body, headers=headers) as reply:
                # The status is the acknowledgment: what else a target may say, or drip, cannot take it back.
                return self._outcome(reply, "" if reply.is_success else one_line(await beginning(reply)))
        except httpx.TransportError as error:
            return Outcome("retry", f"{self._config.origin}: {type(error).__name__}: {str(error)[:200]}")
        except httpx.HTTPError as error:
            return Outcome("failed", f"{self._config.origin}: {type(error).__name__}: {str(error)[:200]}")

    async def _touch(self, url: str) -> None:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        host, port = parts.hostname or "", parts.port or (443 if secure else 80)
        _, writer = await asyncio.open_connection(
            host, port, ssl=self._verify if secure else None, server_hostname=host if secure else None
        )
        writer.transport.abort()

    def _outcome(self, reply: httpx.Response, text: str) -> Outcome:
        status = reply.status_code
        detail = f"{self._config.origin} answered {status}" + (f": {text}" if text and not reply.is_success else "")
        if reply.is_success:
            return Outcome("applied", detail)
        if status in _RETRY or status >= 500:
            return Outcome("retry", detail, seconds_until(reply.headers.get("retry-after"), self._clock()))
        if reply.is_redirect:
            detail = f"{self._config.origin} answered {status}: redirects are not followed"
        return Outcome("failed", detail)


class _Answer(msgspec.Struct):
    """What ``check_url`` answers."""

    action_id: str
    state: Literal["in_force", "not_in_force"]


def _requested(request: ActionRequest, alert: Alert | None) -> dict[str, Any]:
    return _message("agent.containment.requested", request.requested_at, request, alert)


def _message(kind: str, at: int, request: ActionRequest, alert: Alert | None) -> dict[str, Any]:
    action = {
        "id": request.action_id,
        "incident_id": request.incident_id,
        "verb": request.verb,
        "adapter": request.adapter,
        "mode": request.mode,
        "reason": request.reason,
        "tools": request.tools,
        "read_only": request.read_only,
        "expires_at": rfc3339(request.expires_at) if request.expires_at is not None else None,
    }
    row = alert and alert.to_row() | {
        "description": alert.description[:4096],
        "otel_ir.alert.title": alert.title,
        "gen_ai.tool.name": alert.tool_name,
    }
    return {"type": kind, "timestamp": rfc3339(at), "data": {"action": action, "target": dict(request.target), "alert": row}}


def _examine(key: str, url: str, allow_http: bool) -> None:
    """Raises ``ValueError`` for an address to which nothing may be sent."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{key}: an https:// address is expected")
    try:
        httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{key}: {error}") from None
    if parts.username or parts.password:
        raise ValueError(f"{key}: user name and password do not belong there, it is shown in messages")
    if parts.scheme == "http" and not (allow_http or _is_loopback(parts.hostname)):
        raise ValueError(f"{key}: must be https, as an action must not be readable or forgeable on the way (or set allow_http: true)")


def _origin(url: str) -> str:
    """``https://host:port``: paths and queries of such addresses are often secrets themselves."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
