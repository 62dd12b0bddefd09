"""How long property tests look: quick by default; ``OTEL_IR_HYPOTHESIS=thorough`` for a long run."""

from __future__ import annotations

import os

PROFILE = os.environ.get("OTEL_IR_HYPOTHESIS", "quick")
"""Hypothesis profile, loaded by ``conftest.py``."""
_TIMES = 40


def examples(quick: int) -> int:
    """How many examples a test tries; ``quick`` is what the whole suite can afford on two cores."""
    return quick * _TIMES if PROFILE == "thorough" else quick
