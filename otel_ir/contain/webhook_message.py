"""Requests that are signed as Standard Webhooks says, and what is read of the answers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
from standardwebhooks import Webhook as Signer

from otel_ir import __version__
from otel_ir.errors import ConfigError

MAX_REPLY = 4096
"""Bytes of an answer that are read. Of a refusal only the beginning is kept, as its reason."""


def signed(signers: Sequence[Signer], message_id: str, body: bytes, now: int) -> dict[str, str]:
    """The headers of a message; ``now`` in Unix nanoseconds. Each secret signs."""
    when = datetime.fromtimestamp(now // 1_000_000_000, UTC)
    return {
        "content-type": "application/json",
        "accept-encoding": "identity",
        "user-agent": f"otel_ir/{__version__}",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(when.timestamp())),
        "webhook-signature": " ".join(signer.sign(message_id, when, body.decode()) for signer in signers),
    }


def signers(environment: str | None, file: str | None) -> list[Signer]:
    """Of the secrets in an environment variable or a file. Raises ``ConfigError``, which shows none of them."""
    if environment is not None:
        place, text = f"secret_env {environment}", os.environ.get(environment, "")
    else:
        place = f"secret_file {file}"
        try:
            text = Path(str(file)).read_text(encoding="utf-8")
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


async def beginning(reply: httpx.Response) -> bytes:
    """The first bytes of an answer; the rest is not read, nor waited for longer than a second."""
    text = b""
    with contextlib.suppress(TimeoutError, httpx.TransportError):
        async with asyncio.timeout(1.0):
            async for chunk in reply.aiter_raw():
                text += chunk
                if len(text) >= MAX_REPLY:
                    break
    return text[:MAX_REPLY]


def one_line(text: bytes) -> str:
    """The beginning of it, printable."""
    return "".join(c if c.isprintable() else " " for c in text[:200].decode("utf-8", "replace")).strip()


def seconds_until(retry_after: str | None, now: int) -> float | None:
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
