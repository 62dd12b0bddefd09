"""What a guard is told: arguments first, then the environment; the standard OTEL_* variables wherever they say it already."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from otel_ir.errors import ConfigError

Fail = Literal["open", "closed"]

_HEADERS = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
_CERTIFICATES = ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE")


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it, resolved. ``authorization``: the header as sent, or nothing. ``cache``: the folder, or None for no cache."""

    service: str
    instance: str
    agent: str = ""
    endpoint: str = ""
    authorization: str = ""
    fail: Fail = "open"
    stale_after: float = 60.0
    pause_seconds: float = 60.0
    cache: Path | None = None
    ca_file: str = ""
    self_test: bool = True

    def __repr__(self) -> str:
        return f"Settings(service={self.service!r}, endpoint={self.endpoint!r}, fail={self.fail!r})"

    def forked(self) -> Settings:
        """For a child process: an instance of its own."""
        return replace(self, instance=str(uuid.uuid4()))


def resolve(
    *,
    service: str | None = None,
    agent: str = "",
    endpoint: str | None = None,
    token: str | None = None,
    fail: Fail = "open",
    stale_after: float = 60.0,
    pause_seconds: float = 60.0,
    cache: str | Path | bool | None = None,
    self_test: bool = True,
    provider: Any = None,
) -> Settings:
    """Raises ``ConfigError`` for what cannot be used. ``cache=False``: none is kept."""
    resource = _resource(provider)
    if fail not in ("open", "closed"):
        raise ConfigError(f"fail: {fail!r}, must be 'open' or 'closed'")
    if stale_after <= 0 or pause_seconds < 0:
        raise ConfigError("stale_after must be above 0 seconds, pause_seconds not below")
    endpoint = os.environ.get("OTEL_IR_GUARD_ENDPOINT", "") if endpoint is None else endpoint
    return Settings(
        service=service or resource.get("service.name") or "unknown_service",
        instance=resource.get("service.instance.id") or str(uuid.uuid4()),
        agent=agent, endpoint=_checked(endpoint), authorization=_authorization(token), fail=fail,
        stale_after=stale_after, pause_seconds=pause_seconds, cache=_cache(cache),
        ca_file=next((os.environ[name] for name in _CERTIFICATES if os.environ.get(name)), ""), self_test=self_test,
    )  # fmt: skip


def _resource(provider: Any) -> dict[str, str]:
    """Text attributes of the provider's resource, or what the environment says about this process."""
    if (resource := getattr(provider, "resource", None)) is not None:
        return {key: value for key, value in resource.attributes.items() if isinstance(value, str)}
    pairs = (entry.partition("=") for entry in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
    found = {key.strip(): unquote(value.strip()) for key, _, value in pairs}
    if service := os.environ.get("OTEL_SERVICE_NAME"):
        found["service.name"] = service
    return found


def _checked(endpoint: str) -> str:
    if not endpoint:
        return ""
    parts = urlsplit(endpoint)
    try:
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port)
    except ValueError:
        usable = False
    if not usable or parts.username or parts.query or parts.fragment:
        raise ConfigError("endpoint: the OTLP/HTTP address of otel_ir is expected, as http://127.0.0.1:4318")
    return endpoint.rstrip("/")


def _authorization(token: str | None) -> str:
    token = os.environ.get("OTEL_IR_GUARD_TOKEN", "") if token is None else token
    found = f"Bearer {token}" if token else next(filter(None, map(_header, _HEADERS)), "")
    if not found.isprintable() or not found.isascii():
        raise ConfigError("the token has characters that an HTTP header cannot carry")
    return found


def _header(variable: str) -> str:
    """``authorization`` out of ``key1=value1,key2=value2``, percent-decoded (OTLP exporter specification)."""
    for entry in os.environ.get(variable, "").split(","):
        key, _, value = entry.partition("=")
        if unquote(key.strip()).lower() == "authorization":
            return unquote(value.strip())
    return ""


def _cache(given: str | Path | bool | None) -> Path | None:
    if given is False:
        return None
    if given is None or given is True:
        given = os.environ.get("OTEL_IR_GUARD_CACHE") or Path("~") / ".cache" / "otel_ir" / "guard"
    try:
        return Path(given).expanduser()
    except RuntimeError:
        # No home folder is known; the guard says that it has no cache.
        return None
