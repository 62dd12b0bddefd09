"""The project's documents, read for tests: their code blocks, their inline code, their links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *(PROJECT / "docs").rglob("*.md"), *(PROJECT / "benchmarks").glob("*.md")]
)

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced code block: the document, the line it starts at, its language ("" if none), its text."""

    path: Path
    line: int
    language: str
    text: str

    @property
    def file(self) -> str:
        """The name of the file it shows: a comment in its first line, ``# agent.py``; "" if it has none."""
        found = re.match(r"# ([\w./-]+\.\w+)$", self.text.partition("\n")[0])
        return found[1] if found else ""

    @property
    def commands(self) -> list[str]:
        """The commands of a shell block, without comments; continued lines joined."""
        lines = (re.sub(r"\s+#.*$|^#.*$", "", line).strip() for line in self.text.replace("\\\n", " ").splitlines())
        return [line for line in lines if line]


def blocks(path: Path) -> Iterator[Block]:
    """The code blocks of a document, in order."""
    text = path.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        yield Block(path, text.count("\n", 0, found.start()) + 1, found[1], found[2])


def prose(path: Path) -> str:
    """A document without its code blocks."""
    return _BLOCK.sub("", path.read_text(encoding="utf-8"))


def inline(path: Path) -> list[str]:
    """Every piece of inline code in the prose of a document."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(path))]


def between(path: Path, mark: str) -> str:
    """What stands between ``<!-- mark -->`` and ``<!-- /mark -->``."""
    found = re.search(rf"<!-- {mark} -->\n(.*?)<!-- /{mark} -->", path.read_text(encoding="utf-8"), re.DOTALL)
    assert found, f"{path}: no <!-- {mark} --> section"
    return found[1]


def table(text: str) -> list[list[str]]:
    """The cells of a Markdown table's body."""
    rows = [line.strip().strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]
