"""Ten thousand live keys survive a restart: a fresh process reads the checkpoint and fires what one that went on fires."""

from __future__ import annotations

from pathlib import Path

from benchmarks.keys import FIRING, case


def test_live_keys_survive_a_restart(tmp_path: Path) -> None:
    went_on, restored = case(10_000, str(tmp_path))
    assert went_on["alerts"] == restored["alerts"] == FIRING
    assert went_on["digest"] == restored["digest"]
