"""The keys of a rule document: those of Sigma 2, and ours, each refused when misspelt.

pySigma keeps unknown keys silently (``custom_attributes``), so a misspelt ``supress`` would be a rule that does something else
than it says.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

import msgspec

from otel_ir.errors import RuleError
from otel_ir.model import STAGES, EventType
from otel_ir.sigma.source import Document

PRODUCT, CATEGORY = "opentelemetry", "ai_agent"
"""``logsource`` of rules about agents; ``service`` is the event type."""

_COMMON_KEYS = (
    "title", "id", "related", "name", "taxonomy", "status", "description", "license", "references", "tags", "author", "date",
    "modified", "fields", "falsepositives", "level", "scope",
)  # fmt: skip
RULE_KEYS = (*_COMMON_KEYS, "logsource", "detection")
CORRELATION_KEYS = (*_COMMON_KEYS, "correlation")
FILTER_KEYS = (*_COMMON_KEYS, "logsource", "filter")
INNER_KEYS = {
    "logsource": ("category", "product", "service", "definition"),
    "correlation": ("type", "rules", "group-by", "timespan", "condition", "aliases", "generate"),
}
"""Sigma specification 2.1: rules, correlations, filters."""
RULE_EXTENSIONS = ("suppress", "stage", "response", "tests")
CORRELATION_ONLY = ("within-events", "baseline", "absence", "new_terms")
CORRELATION_EXTENSIONS = (*RULE_EXTENSIONS, *CORRELATION_ONLY)

MAX_SPAN = 366 * 86_400
"""Seconds: the longest ``timespan`` or ``suppress``."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "M": 2_629_746, "y": 31_556_952}
"""Seconds; months and years are those of the Gregorian calendar on average (as pySigma has them)."""
NS = 1_000_000_000


class BaselineConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``baseline:`` the group's own rate instead of a fixed number."""

    multiple: Annotated[float, msgspec.Meta(gt=0, le=1e6)]
    default: Annotated[float, msgspec.Meta(gt=0, le=1e9)]
    learn: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 60


class AbsenceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``absence:`` what must not have happened."""

    rule: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    where: Literal["between", "after"] = "between"


class NewTermsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``new_terms:`` values that a group did not have before."""

    fields: Annotated[list[Annotated[str, msgspec.Meta(min_length=1, max_length=200)]], msgspec.Meta(min_length=1, max_length=8)]
    learn: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 1


class CaseConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One of ``tests:``; ``expect`` is whether it alerts, or how many alerts it raises."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    events: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1, max_length=1000)]
    expect: bool | Annotated[int, msgspec.Meta(ge=0)]


class ExtensionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename="kebab"):
    """Our keys of a rule or correlation document."""

    within_events: Annotated[int, msgspec.Meta(ge=2, le=1000)] | None = None
    baseline: BaselineConfig | None = None
    absence: AbsenceConfig | None = None
    new_terms: NewTermsConfig | None = msgspec.field(default=None, name="new_terms")
    suppress: str | None = None
    stage: Literal["attempt", "compromise", "anomaly"] = "anomaly"
    response: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")] | None = None
    tests: Annotated[list[CaseConfig], msgspec.Meta(max_length=200)] = []


def suggest(word: object, known: Iterable[str], *, cutoff: float = 0.7) -> str:
    """A hint that names the nearest known word, or all of them where they are few."""
    known = list(dict.fromkeys(str(one) for one in known))
    near = difflib.get_close_matches(str(word), known, n=1, cutoff=cutoff)
    if near:
        return f"did you mean {near[0]!r}?"
    return "one of " + ", ".join(known) if 0 < len(known) <= 12 else ""


def ours(logsource: object) -> bool:
    """Whether a rule with this ``logsource`` looks at agent events: what it names must be ours, and it must name something of ours."""
    if not isinstance(logsource, dict):
        return False
    named = [(logsource.get("product"), PRODUCT), (logsource.get("category"), CATEGORY)]
    return any(value == wanted for value, wanted in named) and all(value in (None, wanted) for value, wanted in named)


def check_keys(document: Document) -> list[RuleError]:
    """Unknown keys of a document, with the nearest known one.

    A rule for another product may carry keys of its owner's tools (SigmaHQ's do); there only what looks like a misspelling
    of a known key is refused.
    """
    data = document.data
    if "correlation" in data:
        known: tuple[str, ...] = (*CORRELATION_KEYS, *CORRELATION_EXTENSIONS)
    elif "filter" in data:
        known = FILTER_KEYS
    else:
        known = (*RULE_KEYS, *RULE_EXTENSIONS)
    strict = "correlation" in data or "filter" in data or ours(data.get("logsource"))
    errors = list(_unknown(document, data, known, strict))
    for section, inner in INNER_KEYS.items():
        if isinstance(data.get(section), dict):
            errors += _unknown(document, data[section], inner, strict and section == "correlation", section)
    service = data["logsource"].get("service") if ours(data.get("logsource")) else None
    if service is not None and service not in list(EventType):
        hint = suggest(service, list(EventType))
        errors.append(document.error(f"no event type {service!r}", "logsource", "service", hint=hint))
    return errors


def _unknown(document: Document, data: dict[Any, Any], known: tuple[str, ...], strict: bool, section: str = "") -> Iterator[RuleError]:
    where = (section,) if section else ()
    for key in data:
        if key in known:
            continue
        if section and key in CORRELATION_EXTENSIONS:
            yield document.error(f"{key!r} stands inside {section!r}", *where, key, hint="it is a key of the document itself")
        elif not section and key in CORRELATION_ONLY:
            yield document.error(f"{key!r} without a correlation", key, hint="it belongs to a document with 'correlation'")
        elif strict or difflib.get_close_matches(str(key), known, n=1, cutoff=0.8):
            yield document.error(f"unknown key {key!r}", *where, *([key] if isinstance(key, str) else []), hint=suggest(key, known))


def read_extensions(document: Document) -> tuple[ExtensionConfig, list[RuleError]]:
    """Our keys of the document; the defaults and the reason where they cannot be read."""
    ours_only = {key: document.data[key] for key in CORRELATION_EXTENSIONS if key in document.data}
    try:
        config = msgspec.convert(ours_only, ExtensionConfig)
        if config.suppress is not None:
            nanoseconds(config.suppress, document, "suppress")
        return config, []
    except msgspec.ValidationError as error:
        return ExtensionConfig(), [located(document, str(error))]
    except RuleError as error:
        return ExtensionConfig(), [error]


_PATH = re.compile(r"\.([\w-]+)|\[(\d+)\]")
_VALUES = {"stage": STAGES, "absence": ("between", "after")}
_INNER: dict[str, type[msgspec.Struct]] = {
    "baseline": BaselineConfig, "absence": AbsenceConfig, "new_terms": NewTermsConfig, "tests": CaseConfig,
}  # fmt: skip


def located(document: Document, message: str, *section: str, inner: type[msgspec.Struct] | None = None) -> RuleError:
    """What msgspec says of the document (or of a ``section`` of it), at the place it names: ``- at `$.tests[0].expect```.

    ``inner``: the struct whose unknown keys it may speak of; left out, the one that belongs to the key of the document.
    """
    what, _, place = message.partition(" - at ")
    keys: list[str | int] = [*section, *(int(index) if index else name for name, index in _PATH.findall(place))]
    unknown = re.search(r"unknown field `([^`]*)`", what)
    wrong = re.search(r"^Invalid enum value '([^']*)'", what)
    if wrong is not None:
        return document.error(f"{keys[0]}: no such value {wrong[1]!r}", *keys, hint=suggest(wrong[1], _VALUES[str(keys[0])]))
    if unknown is None or not keys:
        named = [key for key in keys if isinstance(key, str)][-1:] if section else keys[:1]
        return document.error(f"{named[0] if named else 'extension'}: {what}", *keys)
    known = [field.encode_name for field in msgspec.structs.fields(inner or _INNER[str(keys[0])])]
    return document.error(f"unknown key {unknown[1]!r}", *keys, unknown[1], hint=suggest(unknown[1], known))


def nanoseconds(spec: object, document: Document, *keys: str) -> int:
    """A span such as ``90s``, ``5m``, ``1h``, ``7d`` in nanoseconds (Sigma correlation specification, "Time Selection")."""
    parsed = re.fullmatch(r"([0-9]{1,9})([smhdwMy])", spec) if isinstance(spec, str) else None
    if parsed is None:
        raise document.error(f"{keys[-1]}: no time span {spec!r}", *keys, hint="a number and one of s, m, h, d, w, M, y, such as 5m")
    seconds = int(parsed[1]) * _UNITS[parsed[2]]
    if not 0 < seconds <= MAX_SPAN:
        raise document.error(f"{keys[-1]}: {spec} is out of range", *keys, hint="from 1s to 366d")
    return seconds * NS
