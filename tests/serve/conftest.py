"""A place for incidents: see ``serve.desk``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from serve.desk import POLICY, Desk


@pytest.fixture
def make_desk(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    """A desk with the usual policy, or with another one."""
    with ExitStack() as stack:
        yield lambda policy=POLICY: Desk(tmp_path, stack, policy)


@pytest.fixture
def desk(make_desk: Callable[..., Desk]) -> Desk:
    """A desk with the usual policy."""
    return make_desk()
