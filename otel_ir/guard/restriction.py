"""What is forbidden to whom, and how it travels: the JSON of the guard protocol, read without trusting a byte of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeVar, get_args

from otel_ir.errors import InputError

T = TypeVar("T")
Verb = Literal["revoke_tools", "read_only_tools", "pause_agent"]
VERBS: tuple[str, ...] = get_args(Verb)

CANARY = "otel_ir.canary"
"""The tool of probes and self-tests. It counts as one of any restricted tools, and never as read-only."""

MAX_RESTRICTIONS = 1000
MAX_PROBES = 100
MAX_TOOLS = 1000
MAX_PATTERNS = 100
MAX_SELECTORS = 16
MAX_TEXT = 1024
"""Characters of an id, a name or a reason. Longer ones are refused, not cut: a cut name is another name."""


@dataclass(frozen=True, slots=True)
class Restriction:
    """One verb in force for the calls that any of ``selectors`` matches (all keys of one must be equal).

    ``tools``: which tools ``revoke_tools`` takes away (None: all). ``read_only``: patterns (fnmatch) of the tools that ``read_only_tools``
    leaves. ``since`` and ``expires`` are Unix nanoseconds. ``reason`` is one line for whoever is refused.
    """

    id: str
    verb: Verb
    selectors: tuple[Mapping[str, str], ...]
    tools: tuple[str, ...] | None = None
    read_only: tuple[str, ...] = ()
    since: int = 0
    expires: int | None = None
    incident: str = ""
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """As the protocol spells it."""
        return {
            "id": self.id, "verb": self.verb, "selectors": [dict(one) for one in self.selectors],
            "tools": None if self.tools is None else list(self.tools), "read_only": list(self.read_only),
            "since": self.since, "expires": self.expires, "incident": self.incident, "reason": self.reason,
        }  # fmt: skip


class Probe(NamedTuple):
    """The server asks: would a call that restriction ``id`` forbids be stopped?"""

    nonce: str
    id: str


class Wanted(NamedTuple):
    """What a server's answer asks for, and what in it could not be read (ignored, and said)."""

    restrictions: tuple[Restriction, ...]
    probes: tuple[Probe, ...]
    faults: tuple[str, ...]


def parse_state(body: bytes) -> Wanted:
    """The body of ``GET /guard/v1/state``. One bad entry is skipped with a reason; raises ``InputError`` when the whole cannot be read."""
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON: {type(error).__name__}") from None
    if not isinstance(given, dict) or not isinstance(given.get("restrictions"), list) or not isinstance(given.get("probes", []), list):
        raise InputError("an object with the lists restrictions and probes is expected")
    faults: list[str] = []
    restrictions = _each(given["restrictions"], restriction, "restrictions", MAX_RESTRICTIONS, faults)
    probes = _each(given.get("probes", []), _probe, "probes", MAX_PROBES, faults)
    return Wanted(tuple(restrictions), tuple(probes), tuple(faults))


def _each(given: list[Any], read: Callable[[Any], T], name: str, most: int, faults: list[str]) -> list[T]:
    found: list[T] = []
    if len(given) > most:
        faults.append(f"{name}: {len(given)} entries, only the first {most} are taken")
    for number, one in enumerate(given[:most]):
        try:
            found.append(read(one))
        except InputError as error:
            faults.append(f"{name}[{number}]: {error}")
    return found


def restriction(given: Any) -> Restriction:
    """One entry of ``restrictions``; unknown keys are ignored. Raises ``InputError``."""
    fields = _object(given)
    verb = _text(fields, "verb")
    if verb not in VERBS:
        raise InputError(f"verb: {verb[:40]!r} is not one the guard knows")
    selectors = tuple(MappingProxyType(_selector(one)) for one in _list(fields, "selectors", MAX_SELECTORS))
    if not selectors:
        raise InputError("selectors: none given, so nobody is meant")
    tools = None if fields.get("tools") is None else _texts(fields, "tools", MAX_TOOLS)
    return Restriction(
        _text(fields, "id"), verb, selectors, tools, _texts(fields, "read_only", MAX_PATTERNS),  # type: ignore[arg-type]
        since=_nanos(fields, "since") or 0, expires=_nanos(fields, "expires"),
        incident=_text(fields, "incident", ""), reason=one_line(_text(fields, "reason", "")),
    )  # fmt: skip


def _probe(given: Any) -> Probe:
    fields = _object(given)
    return Probe(_text(fields, "nonce"), _text(fields, "id"))


def _selector(given: Any) -> dict[str, str]:
    fields = _object(given)
    if not fields:
        raise InputError("selectors: an empty one would mean everybody")
    return {key: _text(fields, key) for key in fields}


def one_line(text: str) -> str:
    """Without line breaks or control characters: it is shown to people and to models."""
    return " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())


def _object(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict) or len(given) > 64:
        raise InputError("an object is expected")
    return given


def _text(fields: dict[str, Any], key: str, default: str | None = None) -> str:
    given = fields.get(key, default)
    if not isinstance(given, str) or len(given) > MAX_TEXT or (default is None and not given):
        raise InputError(f"{key[:40]}: text of 1 to {MAX_TEXT} characters is expected")
    return given


def _list(fields: dict[str, Any], key: str, most: int) -> list[Any]:
    given = fields.get(key, [])
    if not isinstance(given, list) or len(given) > most:
        raise InputError(f"{key}: a list of at most {most} is expected")
    return given


def _texts(fields: dict[str, Any], key: str, most: int) -> tuple[str, ...]:
    given: Sequence[Any] = _list(fields, key, most)
    if not all(isinstance(one, str) and 0 < len(one) <= MAX_TEXT for one in given):
        raise InputError(f"{key}: texts of 1 to {MAX_TEXT} characters are expected")
    return tuple(given)


def _nanos(fields: dict[str, Any], key: str) -> int | None:
    given = fields.get(key)
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or not 0 <= given < 1 << 63):
        raise InputError(f"{key}: Unix nanoseconds are expected")
    return given
