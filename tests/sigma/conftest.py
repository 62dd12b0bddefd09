from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_ir.sigma.evaluate import Evaluator
from otel_ir.sigma.load import Library, load_library
from otel_ir.sigma.parse import parse_document
from otel_ir.sigma.source import Document


def library_of(*documents: dict[str, Any]) -> Library:
    """Parsed, not compiled, without files."""
    library = Library()
    for data in documents:
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
        entry, errors = parse_document(Document("rule.yml", data, yaml.compose(text, Loader=yaml.CSafeLoader)))
        library.errors += errors
        if entry is not None and not errors:
            library.entries.append(entry)
    return library


@pytest.fixture
def matching() -> Callable[..., list[bool]]:
    """Which events a detection matches, through ``rules eval``'s evaluator."""

    def run(detection: dict[str, Any], events: list[dict[str, Any]]) -> list[bool]:
        import json

        detection.setdefault("condition", "selection")
        library = library_of(
            {"title": "t", "id": "0b9dd7a8-36ad-4c86-b4f1-2f1c5e5a0f6d", "logsource": {"product": "any"}, "detection": detection}
        )
        assert not library.errors, [str(error) for error in library.errors]
        evaluator = Evaluator(library)
        assert not library.errors, [str(error) for error in library.errors]
        numbered = [{**event, "\x00n": number} for number, event in enumerate(events)]
        hits = {event["\x00n"] for _, event in evaluator.run(json.dumps(event) for event in numbered)}
        return [number in hits for number in range(len(events))]

    return run


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Library]:
    """Loads texts as rule files ``0.yml``, ``1.yml``, ..."""

    def run(*texts: str) -> Library:
        for number, text in enumerate(texts):
            (tmp_path / f"{number}.yml").write_text(text, encoding="utf-8")
        return load_library([tmp_path])

    return run


@pytest.fixture
def errors(load: Callable[..., Library], tmp_path: Path) -> Callable[..., list[str]]:
    """The errors of texts, without the folder."""

    def run(*texts: str) -> list[str]:
        return [str(error).replace(f"{tmp_path}/", "") for error in load(*texts).errors]

    return run
