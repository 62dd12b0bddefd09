"""What is applied to rules before they are compiled: pySigma's processing pipelines, and the values of placeholders.

Both come from the operator, not from rules; nevertheless nothing in them runs code, reads a further file or opens a connection.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sigma.exceptions import SigmaError
from sigma.processing.pipeline import ProcessingItem, ProcessingPipeline
from sigma.processing.transformations.placeholder import ValueListPlaceholderTransformation

from otel_ir.errors import RuleError
from otel_ir.sigma.extensions import suggest
from otel_ir.sigma.regex import PIPELINE_POLICY, shorten
from otel_ir.sigma.source import Document, read_documents

REFUSED = ("file_placeholders", "http_placeholders", "command_placeholders")
"""Transformations that read files, fetch or run something. pySigma lets an environment variable allow them; we do not."""
QUERY_ONLY = ("postprocessing", "finalizers")
"""Parts of a pipeline that shape the text of a query. There is none here; their templates may name Python files, so they are not read."""
KEYS = ("name", "priority", "transformations", "vars", "allowed_backends", *QUERY_ONLY)


def load_pipeline(files: Sequence[Path], placeholders: Path | None = None) -> ProcessingPipeline | None:
    """The pipelines of ``files`` by priority, then the values of placeholders. ``RuleError`` where one cannot be used."""
    found = sorted((_pipeline(file) for file in files), key=lambda pipeline: pipeline.priority)
    if placeholders is not None:
        found.append(_placeholders(placeholders))
    return sum(found[1:], found[0]) if found else None


def _document(file: Path) -> Document:
    documents, errors = read_documents(file)
    if errors:
        raise errors[0]
    if len(documents) != 1:
        raise RuleError(f"{len(documents)} documents instead of one", path=str(file))
    return documents[0]


def _pipeline(file: Path) -> ProcessingPipeline:
    document = _document(file)
    data = {key: value for key, value in document.data.items() if key not in QUERY_ONLY}
    for key in data:
        if key not in KEYS:
            raise document.error(f"unknown key {key!r}", str(key), hint=suggest(key, KEYS))
    for place, kind in _kinds(data.get("transformations"), ("transformations",)):
        if kind in REFUSED:
            raise document.error(
                f"the transformation {kind!r} is refused", *place, hint="write the values into 'vars', or use --placeholders"
            )
    try:
        return ProcessingPipeline.from_dict(data, policy=PIPELINE_POLICY)
    except SigmaError as error:
        raise document.error(shorten(str(error), 400), "transformations") from None
    except Exception as error:  # pySigma meets values of a type it does not expect with whatever Python raises
        raise document.error(f"pySigma cannot read this: {shorten(str(error))}", "transformations") from None


def _kinds(items: Any, place: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every transformation with its place, nested ones too."""
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict):
            yield (*place, index), str(item.get("type"))
            yield from _kinds(item.get("items"), (*place, index, "items"))


def _placeholders(file: Path) -> ProcessingPipeline:
    """A map of names to a value or a list of values, in which wildcards count."""
    document = _document(file)
    for name, values in document.data.items():
        listed = values if isinstance(values, list) else [values]
        if not listed or not all(isinstance(value, str | int | float) and not isinstance(value, bool) for value in listed):
            raise document.error(f"the values of {name!r} are no texts or numbers", str(name), hint="NAME: [value, value]")
    names = [str(name) for name in document.data]
    items = [ProcessingItem(ValueListPlaceholderTransformation(include=names))]
    values = {str(name): values for name, values in document.data.items()}
    return ProcessingPipeline(name="placeholders", items=items, vars=values, policy=PIPELINE_POLICY)


def apply(pipeline: ProcessingPipeline, sigma: Any) -> None:
    """Changes a SigmaRule or SigmaCorrelationRule in place. ``RuleError`` where the pipeline refuses it."""
    try:
        pipeline.apply(sigma)
    except SigmaError as error:
        raise RuleError(shorten(str(error.args[0] if error.args else error), 400), hint="says the processing pipeline") from None
    except Exception as error:  # a transformation met a value that it was not written for
        raise RuleError(f"the processing pipeline fails: {shorten(str(error))}") from None
