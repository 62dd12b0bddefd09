"""Hypothesis profiles for every test: ``OTEL_IR_HYPOTHESIS=thorough`` looks much longer (see ``thorough.py``)."""

from __future__ import annotations

from hypothesis import settings
from thorough import PROFILE

settings.register_profile("quick", deadline=None)
settings.register_profile("thorough", deadline=None, print_blob=True)
settings.load_profile(PROFILE)
