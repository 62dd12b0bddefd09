"""Asks another system to act, by an HTTP request that is signed as Standard Webhooks says (github.com/standard-webhooks)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import logging
import os
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
import msgspec
from standardwebhooks import Webhook as Signer

from otel_ir import __version__
from otel_ir.errors import ConfigError
from otel_ir.model import Alert
from otel_ir.model_lifecycle import ActionRequest
from otel_ir.respond import About, Outcome, RetryConfig, Verb
from otel_ir.timefmt import rfc3339

MAX_REPLY = 4096
"""Bytes of an answer that are read. Only its beginning is kept, as the reason of a refusal."""
_RETRY = frozenset({408, 425, 429})
"""With 5xx: statuses that may be different next time (RFC 9110; RFC 8470 for 425; RFC 6585 for 429)."""


class WebhookConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Section of response.yaml with ``type: webhook``.

    The secret is not written there but named: ``secret_env`` (an environment variable) or ``secret_file``. It holds one secret,
    ``whsec_`` and base64 of 24 to 64 bytes, or several with spaces between: each signs, so that receivers can change over.
    ``allow_http`` permits plain http to other hosts than this one. ``timeout`` (seconds) bounds one attempt as a whole.
    ``ca_file`` replaces the usual certificate authorities. ``proxy`` is the only proxy used: none is taken from the environment.
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

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("url: an https:// address is expected")
        try:
            httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise ValueError(f"url: {error}") from None
        if parts.username or parts.password:
            raise ValueError("url: user name and password do not belong there, it is shown in messages")
        if parts.scheme == "http" and not (self.allow_http or _is_loopback(parts.hostname)):
            raise ValueError("url: must be https, as an action must not be readable or forgeable on the way (or set allow_http: true)")
        if (self.secret_env is None) == (self.secret_file is None):
            raise ValueError("one of secret_env and secret_file is needed")
        if not 0 < self.timeout <= 300 or not 1 <= self.concurrency <= 64:
            raise ValueError("timeout must be above 0 and at most 300 seconds, concurrency 1 to 64")

    def __repr__(self) -> str:
        return f"WebhookConfig(url={self.origin!r})"

    @property
    def origin(self) -> str:
        """``https://host:port``: paths and queries of such addresses are often secrets themselves."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"


ABOUT = About(
    name="webhook",
    summary="asks another system to act, by a signed HTTP request; 2xx means that it took the request on",
    verbs=("revoke_tools", "read_only_tools", "isolate_network", "pause_agent", "rotate_credentials"),
    needs=(),
    permissions="a secret shared with the receiver; network access to its address",
    reversible=False,
    check="",
    example="""\
adapters:
  soc:
    type: webhook
    url: https://soc.example.com/hooks/otel-ir
    secret_env: OTEL_IR_WEBHOOK_SECRET
    verbs: [revoke_tools, isolate_network, pause_agent, rotate_credentials]
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
        self._signers = _signers(config)
        try:
            self._verify = httpx.create_ssl_context(verify=True, trust_env=False)
            if config.ca_file:
                self._verify = ssl.create_default_context(cafile=config.ca_file)
        except OSError as error:
            raise ConfigError(f"ca_file {config.ca_file}: {error.strerror or error}") from None
        self._client: httpx.AsyncClient | None = None

    about = ABOUT

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

    def preview(self, request: ActionRequest, alert: Alert) -> Mapping[str, Any]:
        """The request without signature, path and query."""
        return {"method": "POST", "to": self._config.origin, "webhook-id": request.action_id, "body": _payload(request, alert)}

    async def apply(self, request: ActionRequest, alert: Alert) -> Outcome:
        """One signed request. The same action has the same ``webhook-id`` whenever it is sent."""
        body = msgspec.json.encode(_payload(request, alert))
        try:
            async with self._connected().stream("POST", self._config.url, content=body, headers=self._headers(request, body)) as reply:
                # The status is the acknowledgment: what else a target may say, or drip, cannot take it back.
                return self._outcome(reply, "" if reply.is_success else await _beginning(reply))
        except httpx.TransportError as error:
            return Outcome("retry", f"{self._config.origin}: {type(error).__name__}: {str(error)[:200]}")
        except httpx.HTTPError as error:
            return Outcome("failed", f"{self._config.origin}: {type(error).__name__}: {str(error)[:200]}")

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

    def _headers(self, request: ActionRequest, body: bytes) -> dict[str, str]:
        now = datetime.fromtimestamp(self._clock() // 1_000_000_000, UTC)
        signatures = (signer.sign(request.action_id, now, body.decode()) for signer in self._signers)
        return {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "user-agent": f"otel_ir/{__version__}",
            "webhook-id": request.action_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signatures),
        }

    def _outcome(self, reply: httpx.Response, text: str) -> Outcome:
        status = reply.status_code
        detail = f"{self._config.origin} answered {status}" + (f": {text}" if text and not reply.is_success else "")
        if reply.is_success:
            return Outcome("applied", detail)
        if status in _RETRY or status >= 500:
            return Outcome("retry", detail, _seconds(reply.headers.get("retry-after"), self._clock()))
        if reply.is_redirect:
            detail = f"{self._config.origin} answered {status}: redirects are not followed"
        return Outcome("failed", detail)


def _payload(request: ActionRequest, alert: Alert) -> dict[str, Any]:
    row = alert.to_row() | {
        "description": alert.description[:4096],
        "otel_ir.alert.title": alert.title,
        "gen_ai.tool.name": alert.tool_name,
    }
    return {
        "type": "agent.containment.requested",
        "timestamp": rfc3339(request.requested_at),
        "data": {
            "action": {"id": request.action_id, "verb": request.verb, "adapter": request.adapter, "mode": request.mode},
            "target": dict(request.target),
            "alert": row,
        },
    }


async def _beginning(reply: httpx.Response) -> str:
    """The first bytes of an answer as one printable line; the rest is not read, nor waited for longer than a second."""
    text = b""
    with contextlib.suppress(TimeoutError, httpx.TransportError):
        async with asyncio.timeout(1.0):
            async for chunk in reply.aiter_raw():
                text += chunk
                if len(text) >= MAX_REPLY:
                    break
    return "".join(c if c.isprintable() else " " for c in text[:200].decode("utf-8", "replace")).strip()


def _seconds(retry_after: str | None, now: int) -> float | None:
    """``Retry-After`` as seconds from ``now`` (ns): a number or an HTTP date (RFC 9110, 10.2.3)."""
    if not retry_after:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after[:10])
    try:
        when = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, when.replace(tzinfo=when.tzinfo or UTC).timestamp() - now / 1_000_000_000)


def _signers(config: WebhookConfig) -> list[Signer]:
    if config.secret_env is not None:
        place, text = f"secret_env {config.secret_env}", os.environ.get(config.secret_env, "")
    else:
        place = f"secret_file {config.secret_file}"
        try:
            text = Path(str(config.secret_file)).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{place}: {getattr(error, 'strerror', None) or 'not text'}") from None
    secrets = text.split()
    if not secrets:
        raise ConfigError(f"{place}: is empty: make one with: echo whsec_$(openssl rand -base64 32)")
    for secret in secrets:
        text = secret.removeprefix("whsec_").rstrip("=")
        size = len(base64.b64decode(text + "=" * (-len(text) % 4))) if re.fullmatch(r"[A-Za-z0-9+/]+", text) and len(text) % 4 != 1 else 0
        # "between 24 bytes (192 bits) and 64 bytes (512 bits)", Standard Webhooks, signature scheme.
        if not 24 <= size <= 64:
            raise ConfigError(f"{place}: a secret is whsec_ and the base64 of 24 to 64 bytes")
    return [Signer(secret) for secret in secrets]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
