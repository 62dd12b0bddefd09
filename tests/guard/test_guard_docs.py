"""docs/guard.md tells every setting and hook there is."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import otel_ir.guard
from otel_ir.guard import settings
from otel_ir.guard.restriction import VERBS

TEXT = (Path(__file__).parents[2] / "docs" / "guard.md").read_text(encoding="utf-8")


def test_every_setting_is_described() -> None:
    for name in inspect.signature(otel_ir.guard.install).parameters:
        assert f"`{name}`" in TEXT, name
    source = inspect.getsource(settings)
    for variable in set(re.findall(r'"(OTEL_[A-Z_]+)"', source)) - {"OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"}:
        assert f"`{variable}`" in TEXT, variable


def test_every_hook_and_verb_is_described() -> None:
    for hook in ("pydantic_ai", "langchain", "openai_agents", "otel", "check", "acheck", "restrict", "lift"):
        assert callable(getattr(otel_ir.guard.Guard, hook))
        assert f"guard.{hook}(" in TEXT, hook
    for verb in VERBS:
        assert f"`{verb}`" in TEXT, verb
