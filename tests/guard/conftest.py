"""Fixtures of the guard's tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from guard.peer import Server


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of a developer's own environment, and no cache outside of the test."""
    for name in [name for name in os.environ if name.startswith(("OTEL_", "OTEL_IR_"))]:
        if name != "OTEL_IR_HYPOTHESIS":
            monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_IR_GUARD_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.close()
