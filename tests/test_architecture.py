"""The layout: a stage imports only what stands to its left, and the public menu stays small."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import otel_ir
from otel_ir import errors

PACKAGE = Path(otel_ir.__file__).parent

# The flow, left to right (the folder list of docs/architecture.md).
STAGES = (
    "receive", "journal", "decode", "normalize", "provenance", "sigma", "detect", "respond", "contain",
    "forward", "export", "store", "investigate", "recover", "report", "guard",
)  # fmt: skip
# What every stage may use; they know no stage themselves.
HELPERS = frozenset({"model", "model_lifecycle", "errors", "timefmt", "telemetry", "otlp_files", "otlp_json", "rules_path", "__init__"})
# What puts stages together; no stage knows them.
COMPOSERS = frozenset({
    "engine", "loop", "offline", "service", "cli", "config", "testing", "sdk", "demo", "drill", "doctor", "processes", "guard_keeper",
    "roster_keeper", "backtest", "__main__",
})  # fmt: skip
DATA = frozenset({"rules", "py.typed", "__pycache__"})

# What the public menu loads when it is asked for, never at import (test_importing_the_package_is_cheap).
MENU = frozenset({"sdk"})

# An agent's process must not pay for the server (measured: Polars alone is 42 MB and 0.4 s).
GUARD_MAY_IMPORT = frozenset({"guard", "errors", "timefmt", "__init__"})
SERVER_LIBRARIES = frozenset({
    "polars", "pyarrow", "ptars", "sigma", "deltalake", "sqlalchemy", "alembic", "starlette", "uvicorn", "grpc", "typer", "rich",
})  # fmt: skip


def _part(path: Path) -> str:
    """The folder or module directly under the package to which a file belongs."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _modules(part: str) -> list[Path]:
    folder = PACKAGE / part
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute module name) of every import, wherever it stands in the file."""
    package = ("otel_ir", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(name for name in (base, node.module) if name)
            if module == "otel_ir":
                yield from ((node.lineno, f"otel_ir.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, module


def _own_parts(path: Path) -> Iterator[tuple[int, str]]:
    """(line, part of otel_ir) of every import of our own code; ``otel_ir.__version__`` and the like belong to ``__init__``."""
    parts = {_part(entry) for entry in PACKAGE.iterdir()}
    for line, module in _imports(path):
        names = module.split(".")
        if names[0] == "otel_ir":
            yield line, names[1] if len(names) > 1 and names[1] in parts else "__init__"


def _faults(part: str, allowed: frozenset[str]) -> list[str]:
    return [
        f"{path.relative_to(PACKAGE.parent)}:{line}: {part} imports {imported}"
        for path in _modules(part)
        for line, imported in _own_parts(path)
        if imported not in allowed
    ]


def test_every_part_has_its_place() -> None:
    unknown = {_part(entry) for entry in PACKAGE.iterdir()} - set(STAGES) - HELPERS - COMPOSERS - DATA
    assert not unknown, f"{sorted(unknown)}: say in tests/test_architecture.py whether it is a stage, a helper or a composer"


@pytest.mark.parametrize("stage", [stage for stage in STAGES if (PACKAGE / stage).exists()])
def test_a_stage_imports_only_what_stands_to_its_left(stage: str) -> None:
    left = frozenset(STAGES[: STAGES.index(stage) + 1])
    assert not _faults(stage, left | HELPERS)


@pytest.mark.parametrize("helper", [helper for helper in sorted(HELPERS) if _modules(helper)[0].exists()])
def test_a_helper_imports_only_helpers(helper: str) -> None:
    assert not _faults(helper, HELPERS | MENU if helper == "__init__" else HELPERS)


@pytest.mark.skipif(not (PACKAGE / "guard").exists(), reason="there is no guard yet")
def test_the_guard_imports_neither_polars_nor_server_code() -> None:
    assert not _faults("guard", GUARD_MAY_IMPORT)
    assert not _loaded_by("otel_ir.guard")


def test_importing_the_package_is_cheap() -> None:
    # `import otel_ir.guard` runs otel_ir/__init__.py first, so what that loads the guard loads.
    assert not _loaded_by("otel_ir")


def _loaded_by(module: str) -> set[str]:
    """Server libraries in memory after importing ``module`` in a fresh interpreter."""
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split()) & SERVER_LIBRARIES


def test_the_public_menu() -> None:
    menu = otel_ir.__all__
    assert len(menu) <= 20
    assert len(set(menu)) == len(menu)
    for name in menu:
        assert name.startswith("__") or getattr(otel_ir, name).__doc__, f"otel_ir.{name} has no docstring"


@pytest.mark.parametrize("stage", [stage for stage in STAGES if (PACKAGE / stage).exists()])
def test_what_a_stage_promises_exists(stage: str) -> None:
    module = importlib.import_module(f"otel_ir.{stage}")
    assert module.__doc__, f"otel_ir/{stage}/__init__.py does not say what the stage does"
    for name in getattr(module, "__all__", ()):
        assert hasattr(module, name)


def test_the_exception_tree_is_small_and_has_one_root() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BaseException)]
    assert len(kinds) <= 8
    assert all(issubclass(kind, errors.OtelIrError) and kind.__doc__ for kind in kinds)
