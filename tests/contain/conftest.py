from __future__ import annotations

from collections.abc import Iterator

import pytest
from contain.hook import Hook


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    yield server
    server.close()
