"""Rule files into documents: bounded, safe YAML that still knows where everything was written."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from otel_ir.errors import RuleError

MAX_FILE_BYTES = 256 * 1024
MAX_DEPTH = 32
"""Nested collections. Sigma itself needs about six."""
MAX_NODES = 100_000
"""Scalars and collections of a file with its aliases written out: a "billion laughs" file is small only until then."""
MAX_FILES = 20_000

_Loader = yaml.CSafeLoader
"""The safe loader: knows the tags of plain data only, so no document can name a Python object."""


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document of a rule file."""

    path: str
    data: dict[str, Any]
    node: yaml.MappingNode

    def error(self, what: str, *keys: str | int, hint: str = "") -> RuleError:
        """A ``RuleError`` that points at ``keys``, or at the nearest parent of it that was written."""
        line, column = self.locate(*keys)
        return RuleError(what, path=self.path, line=line, column=column, hint=hint)

    def locate(self, *keys: str | int) -> tuple[int, int]:
        """Line and column (from 1) of the mapping key or list item at ``keys``, or of its nearest parent that exists."""
        mark = self.node.start_mark
        node: yaml.Node = self.node
        for key in keys:
            found = _child(node, key)
            if found is None:
                break
            mark, node = found
        return mark.line + 1, mark.column + 1


def _child(node: yaml.Node, key: str | int) -> tuple[yaml.Mark, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if isinstance(name, yaml.ScalarNode) and name.value == key:
                return name.start_mark, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        item = node.value[key]
        return item.start_mark, item
    return None


def rule_files(paths: Iterable[Path]) -> tuple[list[Path], list[RuleError]]:
    """The ``*.yml`` and ``*.yaml`` files named by ``paths`` or anywhere under them, sorted within each folder, without repetition."""
    files: dict[Path, None] = {}
    errors = []
    for path in paths:
        if path.is_file():
            files[path] = None
        elif path.is_dir():
            found = sorted(file for file in path.rglob("*.y*ml") if file.suffix in (".yml", ".yaml") and file.is_file())
            files.update(dict.fromkeys(found))
            if not found:
                errors.append(RuleError("no rule files", path=str(path), hint="rule files end in .yml or .yaml"))
        else:
            errors.append(RuleError("no such file or folder", path=str(path)))
    if len(files) > MAX_FILES:
        errors.append(RuleError(f"{len(files)} rule files", hint=f"at most {MAX_FILES} are read"))
        return [], errors
    return list(files), errors


def read_documents(path: Path) -> tuple[list[Document], list[RuleError]]:
    """The documents of one file. A file that is no YAML gives no documents; a broken document does not hide its neighbors."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            return [], [RuleError(f"larger than {MAX_FILE_BYTES // 1024} KiB", path=str(path), hint="split it into several files")]
        text = raw.decode("utf-8")
        _check_shape(text)
        return _load(str(path), text)
    except OSError as error:
        return [], [RuleError(f"cannot be read: {error.strerror}", path=str(path))]
    except UnicodeDecodeError as error:
        return [], [RuleError(f"not UTF-8 at byte {error.start}", path=str(path), hint="save it as UTF-8")]
    except yaml.MarkedYAMLError as error:
        return [], [_yaml_error(str(path), error)]
    except yaml.YAMLError as error:
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        return [], [RuleError(f"not YAML: {str(error).splitlines()[0]}", path=str(path), line=line)]


def _refuse(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _check_shape(text: str) -> None:
    """Refuse, before any tree is built, what would be too deep or too large once its aliases are written out."""
    total, sizes, stack = 0, dict[str, int](), list[tuple[str | None, int]]()
    for event in _events(text):
        if isinstance(event, yaml.DocumentStartEvent):
            sizes.clear()
        elif isinstance(event, yaml.CollectionStartEvent):
            stack.append((event.anchor, total))
            total += 1
            if len(stack) > MAX_DEPTH:
                raise _refuse(f"nested more than {MAX_DEPTH} deep", event.start_mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = stack.pop()
            if anchor is not None:
                sizes[anchor] = total - before
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in stack):
                raise _refuse("an alias refers to what it is part of", event.start_mark)
            total += sizes.get(str(event.anchor), 1)
        if total > MAX_NODES:
            raise _refuse(f"more than {MAX_NODES} values, aliases counted", event.start_mark)


def _events(text: str) -> Iterator[yaml.Event]:
    """Up to where it stops to be YAML; the loader meets the same fault there and reports it."""
    with suppress(yaml.scanner.ScannerError, yaml.parser.ParserError):
        yield from yaml.parse(text, Loader=_Loader)


def _load(path: str, text: str) -> tuple[list[Document], list[RuleError]]:
    documents, errors = [], []
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = cast("yaml.MappingNode", loader.get_node())  # checked below
            try:
                for key in _repeated_keys(node):
                    raise _refuse(f"the key {key.value!r} is written twice", key.start_mark)
                data = loader.construct_document(node)
                if data is None:
                    continue
                if not isinstance(data, dict):
                    raise _refuse("a rule is a mapping of keys to values", node.start_mark)
                documents.append(Document(path, data, node))
            except yaml.MarkedYAMLError as error:
                errors.append(_yaml_error(path, error))
            except (ValueError, TypeError) as error:  # a date such as 2026-13-01, a number of thousands of digits
                mark = node.start_mark
                errors.append(RuleError(f"a value cannot be read: {error}", path=path, line=mark.line + 1, hint="put it in quotes"))
    except yaml.MarkedYAMLError as error:
        errors.append(_yaml_error(path, error))
    finally:
        loader.dispose()
    return documents, errors


def _repeated_keys(root: yaml.Node) -> Iterator[yaml.ScalarNode]:
    """YAML forbids them, PyYAML keeps the last one silently."""
    seen_nodes, stack = set[int](), [root]
    while stack:
        node = stack.pop()
        if id(node) in seen_nodes:
            continue
        seen_nodes.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            stack.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            keys = set[Hashable]()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if (key.tag, key.value) in keys:
                        yield key
                    keys.add((key.tag, key.value))
                stack.append(value)


def _yaml_error(path: str, error: yaml.MarkedYAMLError) -> RuleError:
    mark = error.problem_mark or error.context_mark
    what = ", ".join(part for part in (error.context, error.problem) if part)
    return RuleError(what, path=path, line=mark.line + 1 if mark else 0, column=mark.column + 1 if mark else 0)
