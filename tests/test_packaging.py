"""What a user installs: the wheel carries the rules and the types, and names everything the code imports."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Collection
from importlib.machinery import ModuleSpec
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parent.parent
# Each meets one agent framework, which the application brings; none is imported before its hook is asked for.
HOOKS = frozenset({"guard/langchain.py", "guard/openai_agents.py", "guard/pydantic_ai.py"})
METADATA = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files inside the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    # The build back end is among the development tools, so nothing is downloaded.
    wheel: list[str | Path] = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*wheel, "--wheel-dir", folder, PROJECT], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(folder.glob("otel_ir-*.whl"))) as archive:
        return set(archive.namelist())


def test_the_wheel_carries_every_rule(wheel: set[str]) -> None:
    rules = {path.relative_to(PROJECT) for path in (PROJECT / "rules").rglob("*.y*ml")}
    assert rules, "no rules in rules/"
    assert {f"otel_ir/{path.as_posix()}" for path in rules} <= wheel


def test_the_wheel_carries_every_module_and_data_file(wheel: set[str]) -> None:
    package = PROJECT / "otel_ir"
    files = {path.relative_to(PROJECT).as_posix() for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert files <= wheel
    assert "otel_ir/py.typed" in wheel


def test_the_wheel_carries_nothing_else(wheel: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"otel_ir"}


def test_every_import_is_a_declared_dependency() -> None:
    extras = METADATA["project"]["optional-dependencies"]
    texts = METADATA["project"]["dependencies"] + extras["demo"] + extras["postgres"]
    declared = {canonicalize_name(Requirement(text).name) for text in texts}
    owners = _owners()
    undeclared = {
        f"{path.relative_to(PROJECT)}: {module} of {owner}"
        for path in (PROJECT / "otel_ir").rglob("*.py")
        if path.relative_to(PROJECT / "otel_ir").as_posix() not in HOOKS
        for module in _imported(path)
        if not _covered(owner := owners.get(module, "a package that is not installed"), declared)
    }
    assert not undeclared


def _covered(owner: str, declared: Collection[str]) -> bool:
    # opentelemetry-exporter-otlp is only a name for two packages called after it.
    return owner in declared or ("opentelemetry-exporter-otlp" in declared and owner.startswith("opentelemetry-exporter-otlp-proto-"))


def _imported(path: Path) -> set[str]:
    """Third-party modules that a file imports; of a namespace shared by several packages, the modules taken from it."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            shared = (spec := _spec(node.module)) is not None and spec.origin is None
            modules |= {f"{node.module}.{alias.name}" for alias in node.names} if shared else {node.module}
    return {module for module in modules if module.split(".")[0] not in sys.stdlib_module_names | {"otel_ir"}}


def _spec(module: str) -> ModuleSpec | None:
    try:
        return find_spec(module)
    except ModuleNotFoundError:
        return None


def _owners() -> dict[str, str]:
    """Module -> the installed distribution that carries its file."""
    owners: dict[str, str] = {}
    for distribution in distributions():
        name = canonicalize_name(distribution.name)
        for file in distribution.files or ():
            parts = (*file.parts[:-1], file.name.split(".")[0])
            owners[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = name
    return owners
