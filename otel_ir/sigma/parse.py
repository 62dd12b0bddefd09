"""Documents into pySigma objects, with every error where it was written."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sigma import exceptions as sigma_errors
from sigma.correlations import SigmaCorrelationRule, SigmaCorrelationType
from sigma.exceptions import SigmaError
from sigma.filters import SigmaFilter
from sigma.modifiers import modifier_mapping
from sigma.rule import SigmaDetectionItem, SigmaDetections, SigmaRule, SigmaRuleTag

from otel_ir.errors import RuleError
from otel_ir.sigma.columns import Columns
from otel_ir.sigma.compile import compile_item
from otel_ir.sigma.extensions import ExtensionConfig, check_keys, ours, read_extensions, suggest
from otel_ir.sigma.regex import POLICY, explain_refusal, shorten
from otel_ir.sigma.shape import check_shape
from otel_ir.sigma.source import Document

LEVELS = {"informational": "low", "low": "low", "medium": "medium", "high": "high", "critical": "critical"}
"""Sigma's ``level`` -> our severity."""
NEW_ID = "python -c 'import uuid; print(uuid.uuid4())'"
STATUSES = ("unsupported", "deprecated", "experimental", "test", "stable")


@dataclass(frozen=True, slots=True)
class Entry:
    """A document that pySigma understood, and our keys of it."""

    document: Document
    extensions: ExtensionConfig
    sigma: Any
    """SigmaRule, SigmaCorrelationRule or SigmaFilter."""

    @property
    def id(self) -> str:
        """The document's id; one without is known by its name, else its title."""
        return str(self.sigma.id or self.sigma.name or self.sigma.title)

    @property
    def ours(self) -> bool:
        """Whether it looks at agent events; a pipeline may have changed what the document says."""
        source = getattr(self.sigma, "logsource", None)
        return ours({"product": source.product, "category": source.category}) if source is not None else False

    @property
    def names(self) -> tuple[str, ...]:
        """By what a correlation may refer to it."""
        return names(self.document)


def names(document: Document) -> tuple[str, ...]:
    """Id (in lower case, as UUIDs compare) and name of a document, whether or not the rest of it can be used."""
    identity, name = document.data.get("id"), document.data.get("name")
    return tuple(str(value).lower() if value is identity else str(value) for value in (identity, name) if value is not None)


def referenced(sigma: SigmaCorrelationRule) -> tuple[str, ...]:
    """The rules that a correlation names, in order; a condition over names may stand for the list. ``RecursionError``."""
    if sigma.rules:
        return tuple(str(one.reference) for one in sigma.rules)
    named = getattr(sigma.condition, "get_referenced_rules", None)
    return tuple(str(name) for name in named()) if named else ()


def with_actions(documents: Iterable[Document]) -> Iterator[Document]:
    """Sigma 1's ``action: global | repeat | reset``, which pySigma still reads: shared keys of the documents of one file."""
    shared: dict[str, Any] = {}
    previous: dict[str, Any] = {}
    for document in documents:
        data = dict(document.data)
        action = data.pop("action", None)
        if action == "global":
            shared = previous = data
        elif action == "reset":
            shared = {}
        elif action == "repeat":
            previous = _merged(previous, data)
            yield Document(document.path, previous, document.node)
        else:
            if action is None and not {"correlation", "filter"} & data.keys():
                data = previous = _merged(data, shared)
            yield document if action is not None else Document(document.path, data, document.node)


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = copy.copy(base)
    for key, value in over.items():
        known = result.get(key)
        result[key] = _merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return result


def parse_document(document: Document) -> tuple[Entry | None, list[RuleError]]:
    """The document as pySigma reads it (None where it cannot), and everything that is wrong with it."""
    errors = check_keys(document)
    extensions, refused = read_extensions(document)
    errors += refused
    if refusal := _too_large(document) or ("correlation" in document.data and check_shape(document)):
        return None, [*errors, refusal]
    data = copy.deepcopy(document.data)
    if not isinstance(data.get("id", ""), str):
        errors.append(document.error(f"id: {data.pop('id')!r} is no UUID", "id", hint=_PLACES["SigmaIdentifierError"][1]))
    for section in ("detection", "filter"):
        if isinstance(data.get(section), dict):
            data[section] = _exact(_without_timeframe(data[section]))
    kind = SigmaCorrelationRule if "correlation" in data else SigmaFilter if "filter" in data else SigmaRule
    try:
        sigma = kind.from_dict(data, collect_errors=True, policy=POLICY)
        found = list(sigma.errors)
        if isinstance(sigma, SigmaCorrelationRule):
            referenced(sigma)
    except SigmaError as error:
        return None, [*errors, *_placed(document, [error])]
    except RecursionError:
        return None, [*errors, document.error("a condition is nested too deep", _section(document), "condition")]
    except Exception as error:  # pySigma meets values of a type it does not expect with whatever Python raises
        what = f"pySigma cannot read this: {shorten(str(error))}"
        return None, [*errors, *(detection_errors(document) or [document.error(what, _section(document))])]
    errors += _placed(document, found)
    if errors:
        told = {error.line for error in errors}
        errors += [error for error in detection_errors(document) if error.line not in told]
    return Entry(document, extensions, sigma), errors


MAX_CONDITION = 8192
"""Characters of a condition, alternatives together. Public rules stay below 500."""
MAX_WRITTEN_OUT = 200_000
"""Values of a detection times the names in its condition: each name writes its values out again."""


def _too_large(document: Document) -> RuleError | None:
    """What would cost more to read than a rule is worth; before pySigma sees it."""
    section = _section(document)
    detection = document.data.get(section)
    if not isinstance(detection, dict):
        return None
    written = detection.get("condition")
    condition = " ".join(map(str, written)) if isinstance(written, list) else str(written)
    if len(condition) > MAX_CONDITION:
        return document.error(f"a condition of more than {MAX_CONDITION} characters", section, "condition")
    if section == "correlation":
        return None
    names = sum(word not in ("and", "or", "not", "of", "1", "any", "all") for word in re.findall(r"[\w*-]+", condition))
    if max(names, 1) * _values(detection) > MAX_WRITTEN_OUT:
        return document.error("the condition writes out too many values", section, "condition", hint="split the rule")
    return None


def _values(root: Any) -> int:
    total, stack = 0, [root]
    while stack:
        node = stack.pop()
        total += 1
        stack.extend(node.values() if isinstance(node, dict) else node if isinstance(node, list) else ())
    return total


_EXACT = 2**53
"""Integers up to here are exact as 64-bit floats, which is what pySigma may make of a number."""


def _exact(value: Any) -> Any:
    """Larger integers of plain tests as text: the same digits are the same number. Comparisons stay numbers."""
    if isinstance(value, dict):
        return {canonical(key): inner if "|" in str(key) else _exact(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_exact(inner) for inner in value]
    return str(value) if isinstance(value, int) and abs(value) > _EXACT else value


def _without_timeframe(detection: dict[Any, Any]) -> dict[Any, Any]:
    """Sigma 1 put the ``timeframe`` of an aggregation here. Without one it says nothing, and is no selection to "all of them"."""
    names_it = re.search(r"\btimeframe\b", str(detection.get("condition")))
    plain = isinstance(detection.get("timeframe"), str | int) and not names_it
    return {key: value for key, value in detection.items() if key != "timeframe"} if plain else detection


def canonical(key: Any) -> Any:
    """The key of a test in pySigma's words, which lack the specification's ``utf16le``."""
    if not isinstance(key, str) or "|utf16le" not in key:
        return key
    return "|".join("wide" if at and part == "utf16le" else part for at, part in enumerate(key.split("|")))


def _section(document: Document) -> str:
    return next((key for key in ("correlation", "filter", "detection") if key in document.data), "title")


_PLACES: dict[str, tuple[str, str]] = {
    "SigmaTitleError": ("title", ""),
    "SigmaIdentifierError": ("id", f"a UUID, such as one printed by: {NEW_ID}"),
    "SigmaNameError": ("name", ""),
    "SigmaTaxonomyError": ("taxonomy", ""),
    "SigmaRelatedError": ("related", ""),
    "SigmaDateError": ("date", ""),
    "SigmaModifiedError": ("modified", ""),
    "SigmaFieldsError": ("fields", ""),
    "SigmaFalsePositivesError": ("falsepositives", ""),
    "SigmaAuthorError": ("author", ""),
    "SigmaDescriptionError": ("description", ""),
    "SigmaReferencesError": ("references", ""),
    "SigmaScopeError": ("scope", ""),
    "SigmaLicenseError": ("license", ""),
    "SigmaLogsourceError": ("logsource", ""),
    "SigmaFilterError": ("filter", ""),
}
_CORRELATION_KEYS = {"SigmaTimespanError": "timespan", "SigmaCorrelationTypeError": "type", "SigmaCorrelationConditionError": "condition"}
_OF_CORRELATION = {"can only be used with": "condition", "without field reference": "condition"}
"""Words of pySigma's messages about a correlation -> the key they are about."""


def _placed(document: Document, found: list[Any]) -> list[RuleError]:
    """Errors with their places: pySigma names the file at best; the kind of error tells the key."""
    errors, of_detection = [], []
    data = document.data
    for error in found:
        kind, what = type(error).__name__, _message(error)
        if isinstance(error, sigma_errors.SigmaCorrelationRuleError):
            key = _CORRELATION_KEYS.get(kind) or next((key for words, key in _OF_CORRELATION.items() if words in what), "")
            hint = ""
            if what.startswith("Failed to parse"):
                what, hint = _condition_words(what, data["correlation"]["condition"], [])
            elif key == "type":
                hint = suggest(data["correlation"].get("type"), (one.name.lower() for one in SigmaCorrelationType))
            errors.append(document.error(what, "correlation", *([key] if key else []), hint=hint))
        elif kind == "SigmaLevelError":
            errors.append(document.error(what, "level", hint=suggest(data.get("level"), LEVELS)))
        elif kind == "SigmaStatusError":
            errors.append(document.error(what, "status", hint=suggest(data.get("status"), STATUSES)))
        elif kind in _PLACES:
            key, hint = _PLACES[kind]
            errors.append(document.error(what, key, hint=hint))
        elif kind == "SigmaTagError" or "tag" in what:
            errors += _tag_errors(document)
        elif (named := re.match(r"Sigma rule (\w+) must", what)) and named[1] in data:
            errors.append(document.error(what, named[1]))
        else:
            of_detection.append(error)
    if of_detection:
        errors += detection_errors(document) or [document.error(_message(error), _section(document)) for error in of_detection]
    return errors


def _message(error: Any) -> str:
    what = str(error.args[0] if error.args else error).splitlines()[0].rstrip(".")
    return shorten(re.sub(r"'(.{80}).+' is invalid", r"'\1…' is invalid", what), 400)


def _tag_errors(document: Document) -> list[RuleError]:
    tags = document.data.get("tags")
    if not isinstance(tags, list):
        return [document.error("tags are a list", "tags")]
    errors = []
    for index, tag in enumerate(tags):
        try:
            SigmaRuleTag.from_str(tag if isinstance(tag, str) else "")
        except SigmaError:
            errors.append(document.error(f"no tag {tag!r}", "tags", index, hint="namespace.name, such as owasp.asi02"))
    return errors[:1] if len(errors) > 20 else errors


def detection_errors(document: Document) -> list[RuleError]:
    """What is wrong with the single tests and the condition of a detection (or filter), each at its own place."""
    section = _section(document)
    detection = document.data.get(section)
    if section == "correlation" or not isinstance(detection, dict):
        return []
    errors = list[RuleError]()
    for name, definition in detection.items():
        if name not in ("condition", "rules"):
            errors += _definition_errors(document, definition, (section, name))
    return errors + _condition_errors(document, detection, section)


def _condition_errors(document: Document, detection: dict[Any, Any], section: str) -> list[RuleError]:
    """What is wrong with the condition by itself, whatever the tests that it names look like."""
    named = [name for name in detection if name not in ("condition", "rules")]
    written: dict[str, Any] = {str(name): {"field": "value"} for name in named}
    if "condition" in detection:
        written["condition"] = detection["condition"]
    try:
        for condition in SigmaDetections.from_dict(written, policy=POLICY).parsed_condition:
            condition.parse()
    except RecursionError:
        return [document.error("a condition is nested too deep", section, "condition")]
    except (TypeError, AttributeError):
        return [document.error("a condition is text", section, "condition")]
    except SigmaError as error:
        what, hint = _condition_words(_message(error), detection.get("condition", ""), named)
        return [document.error(what, section, "condition", hint=hint)]
    return []


def _condition_words(what: str, condition: object, named: list[str]) -> tuple[str, str]:
    stopped = re.search(r"\(at char (\d+)\)", what)
    if "not defined in detections" in what:
        return what, suggest(what.split("'")[1], named)
    if "pipe syntax" in what:
        return "the pipe syntax of conditions is gone from Sigma", "write a correlation"
    if stopped is not None:
        rest = str(condition)[int(stopped[1]) :]
        return "the condition cannot be read", f"from {shorten(rest, 40)!r} on" if rest and isinstance(condition, str) else "at its end"
    return what, ""


def _definition_errors(document: Document, definition: object, place: tuple[str | int, ...]) -> Iterator[RuleError]:
    if isinstance(definition, dict):
        for key, value in definition.items():
            yield from _item_errors(document, key, value, (*place, key))
    elif isinstance(definition, list) and any(isinstance(item, dict | list) for item in definition):
        for index, item in enumerate(definition):
            yield from _definition_errors(document, item, (*place, index))
    else:
        yield from _item_errors(document, None, definition, place)


def _item_errors(document: Document, key: object, value: object, place: tuple[Any, ...]) -> Iterator[RuleError]:
    try:
        if key is not None and not isinstance(key, str):
            raise RuleError(f"a field name is text, not {key!r}", hint="put it in quotes")
        item = SigmaDetectionItem.from_mapping(canonical(key), copy.copy(value), policy=POLICY)
        compile_item(item, Columns())
    except RuleError as error:
        yield document.error(error.what, *place, hint=error.hint)
    except SigmaError as error:
        yield document.error(_message(error), *place, hint=_item_hint(str(key), value, error))
    except (TypeError, ValueError, AttributeError) as error:
        yield document.error(f"a value that is no text, number, true, false or null: {shorten(str(error))}", *place)


def _item_hint(key: str, value: object, error: Any) -> str:
    if isinstance(error, sigma_errors.SigmaRegularExpressionError):
        return explain_refusal(str(value))
    if "Unknown modifier" in _message(error):
        unknown = next((name for name in key.split("|")[1:] if name not in modifier_mapping), "")
        return suggest(unknown, (*modifier_mapping, "utf16le"))
    return ""
