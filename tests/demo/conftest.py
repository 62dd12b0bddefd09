"""A place that is not as the demo would like it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.demo.places import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Somewhere else, where things are not as the demo would like them."""
    folder, temporary = tmp_path / "somewhere", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    # Names of modules the demo imports: what lies around must not be run.
    for name in ("json", "otel_ir", "yaml"):
        (folder / f"{name}.py").write_text("raise RuntimeError('a file of the current folder was imported')")
    mark = f"OTEL_IR_TEST_MARK={uuid.uuid4()}"
    env = {
        **os.environ,
        "TMPDIR": str(temporary),
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "OTEL_SDK_DISABLED": "true",
        "OTEL_TRACES_SAMPLER": "always_off",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "8",
        "MARK_OF_THE_TEST": mark,
    }
    return Place(folder, temporary, env, mark)


@pytest.fixture
def nothing_left(place: Place) -> Callable[[], None]:
    """Fails if files or processes are left."""

    def check() -> None:
        assert not place.processes()
        assert not list(place.temporary.iterdir())

    return check
