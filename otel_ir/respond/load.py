"""Reads an operator's YAML into msgspec Structs, and says file, line and a hint for everything that cannot be used."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml
from msgspec import inspect

from otel_ir.errors import ConfigError

T = TypeVar("T")
Place = tuple[str | int, ...]

MAX_BYTES = 1_000_000
MAX_NODES = 50_000
"""Aliases can make a small file expand without end; a response policy has a few hundred nodes."""


_PLAIN_TAGS = frozenset({"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})


class Document:
    """A YAML file as plain values, with the line of every key."""

    def __init__(self, text: str, path: str) -> None:
        """Raises ``ConfigError`` when it is not YAML, not a mapping, too large, or has a key twice."""
        self.path, self._lines, self._nodes = path, dict[Place, int](), 0
        if len(text) > MAX_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_BYTES:,} bytes")
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise ConfigError(f"{path}:{mark.line + 1 if mark else 1}: {error.problem or 'not YAML'}") from None
        except yaml.YAMLError as error:
            raise ConfigError(f"{path}: {error}") from None
        self.data: dict[str, Any] = {} if root is None else self._plain(root, (), yaml.SafeLoader(""))
        if not isinstance(self.data, dict):
            raise ConfigError(f"{path}:1: a mapping of keys to values is expected")

    @classmethod
    def read(cls, path: Path) -> Document:
        """A file. Raises ``ConfigError`` when it cannot be read."""
        try:
            return cls(path.read_bytes().decode(), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None

    def line(self, place: Sequence[str | int]) -> int:
        """Line of the key or item at ``place``, or of the nearest one around it."""
        for size in range(len(place), 0, -1):
            if line := self._lines.get(tuple(place[:size])):
                return line
        return 1

    def error(self, place: Sequence[str | int], what: str, hint: str = "") -> str:
        """``file:line: a.b: what: hint``."""
        name = ".".join(str(part) for part in place)
        return ": ".join(part for part in (f"{self.path}:{self.line(place)}", name, what, hint) if part)

    def convert(self, kind: type[T], place: Place = ()) -> T:
        """The value at ``place`` as ``kind``. Raises ``ConfigError`` with one line for each fault found."""
        value, faults, misspelt = _copy(_at(self.data, place)), list[tuple[int, str]](), set[Place]()
        while True:
            try:
                converted = msgspec.convert(value, kind)
            except msgspec.ValidationError as error:
                what, inner = _parse(str(error))
                inner = _named(value, kind, inner, str(error))
                unknown = re.search("unknown field `(.*)`", what)
                if not unknown:
                    if inner not in misspelt:  # there it may be the misspelt key that is missing
                        faults.append(self._fault((*place, *inner), what[:1].lower() + what[1:]))
                    break
                # msgspec stops at the first fault: take the unknown key away and look for the next one.
                name = unknown[1]
                faults.append(self._fault((*place, *inner, name), "unknown key", suggest(name, _fields(kind, inner))))
                _remove(value, inner, name)
                misspelt.add(inner)
                continue
            if not faults:
                return converted
            break
        raise ConfigError("\n".join(text for _, text in sorted(faults)))

    def _fault(self, place: Place, what: str, hint: str = "") -> tuple[int, str]:
        return self.line(place), self.error(place, what, hint)

    def _plain(self, node: yaml.Node, place: Place, loader: yaml.SafeLoader) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise ConfigError(f"{self.path}: more than {MAX_NODES:,} values")
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN_TAGS:
            raise ConfigError(f"{self.path}:{node.start_mark.line + 1}: the tag {node.tag!r} has no meaning here")
        if isinstance(node, yaml.MappingNode):
            mapping: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key, line = str(key_node.value), key_node.start_mark.line + 1
                if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                    raise ConfigError(f"{self.path}:{line}: keys are plain words here")
                if key in mapping:
                    raise ConfigError(f"{self.path}:{line}: {key}: given twice: first in line {self._lines[(*place, key)]}")
                self._lines[(*place, key)] = line
                mapping[key] = self._plain(value_node, (*place, key), loader)
            return mapping
        if isinstance(node, yaml.SequenceNode):
            items = []
            for number, item in enumerate(node.value):
                self._lines[(*place, number)] = item.start_mark.line + 1
                items.append(self._plain(item, (*place, number), loader))
            return items
        try:
            return loader.construct_object(node)
        except (yaml.YAMLError, ValueError):
            raise ConfigError(f"{self.path}:{node.start_mark.line + 1}: {str(node.value)[:80]!r} is not a value of this kind") from None


def _parse(message: str) -> tuple[str, Place]:
    """``Expected `int` - at `$.safety.x[0]``` -> what, place."""
    what, _, path = message.partition(" - at `")
    tokens = re.findall(r"\.([^.\[\]`]+)|\[(\d+|\.\.\.)\]", path)
    return what, tuple(name or (_ANY if number == _ANY else int(number)) for name, number in tokens)


_ANY = "..."
"""How msgspec names a key of a mapping with free keys: it does not say which."""


def _named(value: Any, kind: Any, place: Place, message: str) -> Place:
    """``place`` with the free keys found: the one which alone gives the same message."""
    while _ANY in place:
        index = place.index(_ANY)
        keys = list(_at(value, place[:index]))
        for key in keys:
            trial = _copy(value)
            for other in keys:
                if other != key:
                    _remove(trial, place[:index], other)
            try:
                msgspec.convert(trial, kind)
            except msgspec.ValidationError as error:
                if str(error) == message:
                    place = (*place[:index], key, *place[index + 1 :])
                    break
        else:
            return place[:index]
    return place


def _fields(kind: Any, place: Place) -> list[str]:
    """Names of the keys allowed at ``place`` of a Struct."""
    types: list[Any] = [inspect.type_info(kind)]
    for part in place:
        types = [inner for one in types for inner in _inner(one, part)]
    return [field.encode_name for one in types for flat in _flat(one) if isinstance(flat, inspect.StructType) for field in flat.fields]


def _flat(kind: Any) -> Iterator[Any]:
    if isinstance(kind, inspect.UnionType):
        yield from kind.types
    else:
        yield kind


def _inner(kind: Any, part: str | int) -> Iterator[Any]:
    for flat in _flat(kind):
        if isinstance(flat, inspect.StructType):
            yield from (field.type for field in flat.fields if field.encode_name == part)
        elif isinstance(flat, inspect.DictType):
            yield flat.value_type
        elif isinstance(flat, inspect.CollectionType):
            yield flat.item_type


def suggest(name: str, known: Sequence[str]) -> str:
    """A hint for a misspelt name: the closest known one, else all of them."""
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]!r}?" if close else f"one of {', '.join(known)}" if known else ""


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _at(value: Any, place: Place) -> Any:
    for part in place:
        value = value[part]
    return value


def _remove(value: Any, place: Place, name: str) -> None:
    del _at(value, place)[name]
