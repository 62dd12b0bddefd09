"""The project's own tools: the structure report, and the cache of real parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import structure
from tools.real_parts import __main__ as real_parts
from tools.real_parts import install


def test_structure_measures_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text('__all__ = ["a", "b"]\n')
    (tmp_path / "errors.py").write_text("class Base(Exception): ...\nclass Leaf(Base): ...\nclass Deep(Leaf): ...\n")
    (tmp_path / "code.py").write_text('def f():\n    """Two\n    lines."""\n    x = 1\n\n    return x\n')
    numbers = {(m.what, m.place.rpartition("/")[2]): m.number for m in structure.measure(tmp_path)}
    assert numbers["function", "code.py:1 f"] == 3
    assert numbers["class depth", "errors.py:3 Deep"] == 3
    assert numbers["public names", "__init__.py"] == 2
    assert numbers["exception types", "errors.py"] == 3
    assert numbers["module", "code.py"] == 6


def test_a_part_is_made_once_and_again_when_its_inputs_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_IR_CACHE", str(tmp_path))
    made: list[Path] = []
    first = install.made("part", ["a"], made.append)
    assert install.made("part", ["a"], made.append) == first
    second = install.made("part", ["b"], made.append)
    assert made == [first, second]


def test_a_part_left_half_done_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_IR_CACHE", str(tmp_path))

    def fails(folder: Path) -> None:
        (folder / "half").touch()
        install.run(["false"], folder=folder, log=folder / "log")

    with pytest.raises(install.PartUnavailableError, match="false ended with 1"):
        install.made("part", ["a"], fails)
    folder = install.made("part", ["a"], lambda folder: (folder / "whole").touch())
    assert not (folder / "half").exists()
    assert (folder / "whole").exists()


def test_an_unknown_part_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert real_parts.main(["nonsense"]) == 2
    assert "no such part: nonsense" in capsys.readouterr().err
