"""What telemetry says of sampling: the share that was kept, where a sampler writes it down. Tables and pure functions.

Whole traces that an SDK drops by itself, without writing it down, leave no sign in spans at all; only the log records of their traces tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

SAMPLED = 0x01
"""Trace flag of a span or log record whose trace was sampled (W3C Trace Context)."""
MAX_STATE = 1024
"""Characters of a trace state that are read; W3C Trace Context asks of nobody to send on more than 512."""
_OT = r"(?:^|,)\s*ot=(?:[^,]*;)?"
_THRESHOLD = re.compile(_OT + r"th:([0-9a-f]{1,14})(?:[;,]|$)")
_POWER = re.compile(_OT + r"p:(\d{1,2})(?:[;,]|$)")
_ELASTIC = re.compile(r"(?:^|,)\s*es=(?:[^,]*;)?s:(\d(?:\.\d{1,6})?)(?:[;,]|$)")


def of_threshold(text: str) -> float | None:
    """Share kept = 1 - th / 2^56, where trailing zeros are left out ("TraceState: Probability Sampling", OpenTelemetry specification)."""
    return 1 - int(text.ljust(14, "0"), 16) / 2**56 if re.fullmatch(r"[0-9a-f]{1,14}", text) else None


def of_state(state: str) -> float | None:
    """The share that was kept, as the trace state says: ``ot=th:``, ``ot=p:`` (2^-p, its predecessor), ``es=s:`` (Elastic)."""
    state = state[:MAX_STATE]
    if found := _THRESHOLD.search(state):
        return of_threshold(found[1])
    if found := _POWER.search(state):
        return 2.0 ** -int(found[1])
    if found := _ELASTIC.search(state):
        return _share(found[1])
    return None


def _share(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def _percent(text: str) -> float | None:
    try:
        return _share(str(float(text) / 100))
    except ValueError:
        return None


SAMPLERS: Mapping[str, Callable[[str], float | None]] = {
    "sampling.threshold": of_threshold,  # log records: the Collector's probabilistic sampler
    "logfire.sample_rate": _share,
    "microsoft.sample_rate": _percent,  # Azure Monitor
    "_MS.sampleRate": _percent,  # … before
}
"""Attribute of a span or log record that a sampler sets -> how the share kept is read from it."""
JAEGER = ("jaeger.sampler.type", "jaeger.sampler.param")
"""Jaeger's remote sampler: a share only where the type is ``probabilistic``; ``ratelimiting`` keeps so many a second."""
TAIL = ("tailsampling.policy", "tailsampling.composite_policy", "tailsampling.cached_decision")
"""Attributes of the scope with which the Collector's tail sampling says why it kept a trace; how many it dropped it does not say."""
_READ = frozenset((*SAMPLERS, *JAEGER))


def of_attributes(attributes: Iterable[Any]) -> tuple[str, float | None] | None:
    """OTLP attributes -> the one that says that a sampler was at work, and the share it kept (None: it does not say). None: no such one."""
    found = {one.key: one.value for one in attributes if one.key in _READ}
    for name, read in SAMPLERS.items():
        if name in found:
            share = read(_text(found[name]))
            return None if share == 1 or share is None else (name, share)
    kind, param = (_text(found[name]) if name in found else "" for name in JAEGER)
    if kind == "ratelimiting":
        return JAEGER[0], None
    share = _share(param) if kind == "probabilistic" else None
    return None if share in (None, 1) else (JAEGER[1], share)


def _text(value: Any) -> str:
    which = value.WhichOneof("value")
    return str(getattr(value, which))[:64] if which in ("string_value", "int_value", "double_value") else ""
