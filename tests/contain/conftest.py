from __future__ import annotations

from collections.abc import Iterator

import pytest
from contain.hook import Hook
from contain.served import Server


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    yield server
    server.close()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()
