"""What can act on an agent: one adapter per file, all of them in one table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from otel_ir.contain.webhook import ABOUT as WEBHOOK
from otel_ir.contain.webhook import Webhook, WebhookConfig
from otel_ir.errors import ConfigError
from otel_ir.respond import About, Adapter, Document, ResponseConfig, suggest

__all__ = ["ADAPTERS", "AdapterKind", "Webhook", "WebhookConfig", "build_adapters"]


class AdapterKind(NamedTuple):
    """How to make an adapter of one kind: its description, its section of response.yaml, and its class."""

    about: About
    config: type[Any]
    make: Callable[..., Adapter]


ADAPTERS: Mapping[str, AdapterKind] = {
    "webhook": AdapterKind(WEBHOOK, WebhookConfig, Webhook),
}
"""By ``type``. Adding an adapter is a file and a line here; the contract test runs over this table."""


def build_adapters(config: ResponseConfig, document: Document, *, clock: Callable[[], int] = time.time_ns) -> dict[str, Adapter]:
    """The configured adapters by their names in response.yaml, in its order.

    Raises ``ConfigError`` with one ``file:line: key: what: hint`` for every section that cannot be used. Connects to nothing.
    """
    built: dict[str, Adapter] = {}
    faults: list[str] = []
    for name, section in config.adapters.items():
        place = ("adapters", name)
        kind = ADAPTERS.get(str(section.get("type")))
        if kind is None:
            what = f"no adapter of type {section['type']!r}" if "type" in section else "type is missing"
            faults.append(document.error((*place, "type"), what, suggest(str(section.get("type")), list(ADAPTERS))))
            continue
        try:
            built[name] = kind.make(document.convert(kind.config, place), clock=clock)
        except ConfigError as error:
            text = str(error)
            faults.append(text if text.startswith(document.path) else document.error(place, text))
    if faults:
        raise ConfigError("\n".join(faults))
    return built
