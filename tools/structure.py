"""Reports the guide numbers of the code's structure: ``python tools/structure.py``. It never fails: cohesion beats the numbers.

Lines of a function are those of its body without the docstring; the depth of a class counts classes of this package only.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MODULE_LINES = 400
FUNCTION_LINES = 40
CLASS_DEPTH = 2
PUBLIC_NAMES = 20
EXCEPTIONS = 8


class Measure(NamedTuple):
    """One measured thing: where it stands, its number, and the guide number it is held against."""

    what: str
    place: str
    number: int
    guide: int


def _parse(root: Path) -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in sorted(root.rglob("*.py"))}


def function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the first statement after the docstring to the end."""
    body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def _functions(path: Path, tree: ast.Module) -> Iterator[Measure]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Measure("function", f"{path}:{node.lineno} {node.name}", function_lines(node), FUNCTION_LINES)


def class_depths(trees: dict[Path, ast.Module]) -> dict[str, tuple[str, int]]:
    """Class name -> (place, length of the longest chain of own base classes, itself included)."""
    bases: dict[str, tuple[str, list[str]]] = {}
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                names = [ast.unparse(base).split("[")[0].rpartition(".")[2] for base in node.bases]
                bases[node.name] = (f"{path}:{node.lineno} {node.name}", names)

    def depth(name: str, seen: frozenset[str]) -> int:
        if name not in bases or name in seen:
            return 0
        return 1 + max((depth(base, seen | {name}) for base in bases[name][1]), default=0)

    return {name: (place, depth(name, frozenset())) for name, (place, _) in bases.items()}


def _public_names(tree: ast.Module) -> int:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets):
            return len(node.value.elts) if isinstance(node.value, ast.List | ast.Tuple) else 0
    return 0


def measure(root: Path) -> list[Measure]:
    """Every number of the package in folder ``root``."""
    trees = _parse(root)
    measures = [Measure("module", str(path), len(path.read_text(encoding="utf-8").splitlines()), MODULE_LINES) for path in trees]
    measures += [measured for path, tree in trees.items() for measured in _functions(path, tree)]
    measures += [Measure("class depth", place, depth, CLASS_DEPTH) for place, depth in class_depths(trees).values()]
    for path, tree in trees.items():
        if path == root / "__init__.py":
            measures.append(Measure("public names", str(path), _public_names(tree), PUBLIC_NAMES))
        if path == root / "errors.py":
            classes = sum(isinstance(node, ast.ClassDef) for node in tree.body)
            measures.append(Measure("exception types", str(path), classes, EXCEPTIONS))
    return measures


def main() -> int:
    """Prints one line a kind (how many, median, largest) and then whatever is over its guide number."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("otel_ir")
    measures = measure(root)
    for what in dict.fromkeys(measured.what for measured in measures):
        numbers = sorted(measured.number for measured in measures if measured.what == what)
        guide = next(measured.guide for measured in measures if measured.what == what)
        print(f"{what:16} {len(numbers):5}  median {numbers[len(numbers) // 2]:4}  largest {numbers[-1]:4}  guide {guide}")
    over = sorted((measured for measured in measures if measured.number > measured.guide), key=lambda m: m.number / m.guide, reverse=True)
    for measured in over:
        print(f"  over: {measured.place}: {measured.what} {measured.number} > {measured.guide}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
