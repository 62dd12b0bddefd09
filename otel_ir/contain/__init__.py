"""What can act on an agent: one adapter per file, all of them in one table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from otel_ir.contain.around import Surroundings
from otel_ir.contain.guard import ABOUT as GUARD
from otel_ir.contain.guard import Guard, GuardConfig
from otel_ir.contain.guard_hub import GuardHub
from otel_ir.contain.guard_info import GuardInfo
from otel_ir.contain.process import ABOUT as PROCESS
from otel_ir.contain.process import Process, ProcessConfig
from otel_ir.contain.webhook import ABOUT as WEBHOOK
from otel_ir.contain.webhook import Webhook, WebhookConfig
from otel_ir.errors import ConfigError
from otel_ir.respond import About, Adapter, Document, ResponseConfig, suggest

__all__ = ["ADAPTERS", "AdapterKind", "GuardHub", "GuardInfo", "Surroundings", "Webhook", "WebhookConfig", "build_adapters"]


class AdapterKind(NamedTuple):
    """How to make an adapter of one kind: its description, its section of response.yaml, and its class."""

    about: About
    config: type[Any]
    make: Callable[[Any, Surroundings], Adapter]


ADAPTERS: Mapping[str, AdapterKind] = {
    "guard": AdapterKind(GUARD, GuardConfig, Guard),
    "process": AdapterKind(PROCESS, ProcessConfig, Process),
    "webhook": AdapterKind(WEBHOOK, WebhookConfig, lambda config, around: Webhook(config, clock=around.clock)),
}
"""By ``type``. Adding an adapter is a file and a line here; the contract test runs over this table."""


def build_adapters(
    config: ResponseConfig, document: Document, around: Surroundings | None = None, *, clock: Callable[[], int] = time.time_ns
) -> dict[str, Adapter]:
    """The configured adapters by their names in response.yaml, in its order.

    ``around`` is what they share with the server; without it, they share only ``clock``. Raises ``ConfigError`` with one
    ``file:line: key: what: hint`` for every section that cannot be used. Connects to nothing.
    """
    around = around or Surroundings(clock)
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
            built[name] = kind.make(document.convert(kind.config, place), around)
        except ConfigError as error:
            text = str(error)
            faults.append(text if text.startswith(document.path) else document.error(place, text))
    if faults:
        raise ConfigError("\n".join(faults))
    return built
