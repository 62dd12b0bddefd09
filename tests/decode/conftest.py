from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from otel_ir.decode import values


@pytest.fixture(scope="session")
def monkeypatch_few() -> Any:
    """Sets up to how many values are decoded one by one, so that both ways are tested on small input."""

    @contextmanager
    def few(count: int) -> Iterator[None]:
        before = values._FEW
        values._FEW = count
        try:
            yield
        finally:
            values._FEW = before

    return few
