"""A checkpoint is the whole state or none, whatever dies and whatever rots."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from otel_ir.errors import StorageError
from otel_ir.store import checkpoint
from otel_ir.store.checkpoint import CheckpointStore, Restored

FRAME = pl.DataFrame(
    {
        "key": ["a", None, "c" * 100],
        "at": [1, 2, None],
        "n": pl.Series([1, None, 3], dtype=pl.UInt32),
        "flags": [[True], [], None],
        "pair": [{"x": 1}, {"x": None}, None],
        "kind": pl.Series(["p", "q", "p"], dtype=pl.Categorical),
        "raw": [b"\0", b"", None],
        "rate": [0.1, float("inf"), None],
    }
)


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path, code="1")


def state(number: int) -> dict[str, pl.DataFrame | bytes]:
    return {"windows": pl.DataFrame({"n": [number] * 50}), "clock": str(number).encode()}


def same(found: Restored, ordinal: int) -> bool:
    if found.checkpoint is None or found.checkpoint.ordinal != ordinal:
        return False
    frame, clock = found.checkpoint.state["windows"], found.checkpoint.state["clock"]
    return isinstance(frame, pl.DataFrame) and frame["n"].to_list() == [ordinal] * 50 and clock == str(ordinal).encode()


def test_nothing_yet(store: CheckpointStore) -> None:
    assert store.load() == Restored(None)
    assert (store.ordinals, store.floor) == ([], 0)


def test_a_state_comes_back_as_it_was(store: CheckpointStore) -> None:
    parts: dict[str, pl.DataFrame | bytes] = {
        "frame": FRAME,
        "empty": FRAME.head(0),
        "no columns": pl.DataFrame(),
        "chunks": pl.concat([FRAME, FRAME], rechunk=False),
        "bytes": b"\0\xff" * 1000,
        "no bytes": b"",
        "../odd/näme": b"x",
    }
    store.save(256, parts)
    restored = store.load()
    assert restored.skipped == ()
    assert restored.checkpoint is not None
    assert restored.checkpoint.ordinal == 256
    assert list(restored.checkpoint.state) == list(parts)
    for name, value in parts.items():
        found = restored.checkpoint.state[name]
        if isinstance(value, pl.DataFrame):
            assert isinstance(found, pl.DataFrame)
            assert found.schema == value.schema
            assert found.equals(value)
        else:
            assert found == value


def test_equal_states_give_equal_files(tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        CheckpointStore(tmp_path / name, code="1").save(256, {"f": FRAME, "b": b"x"})
        files.append((tmp_path / name / "checkpoint-00000000000000000256.zip").read_bytes())
    assert files[0] == files[1]


def test_any_tool_opens_it(store: CheckpointStore, tmp_path: Path) -> None:
    store.save(256, {"windows": FRAME, "clock": b"7"})
    with zipfile.ZipFile(tmp_path / "checkpoint-00000000000000000256.zip") as archive:
        assert archive.namelist() == ["windows.arrow", "clock.bin", "manifest.json"]
        assert archive.testzip() is None
        manifest = json.loads(archive.read("manifest.json"))
    assert (manifest["format"], manifest["code"], manifest["ordinal"]) == (1, "1", 256)
    assert manifest["parts"]["clock"]["sha256"] == "7902699be42c8a8e46fbbb4501726517e86b22c56a189f7625a6da49081b2451"


def test_the_newest_two_are_kept(store: CheckpointStore) -> None:
    for ordinal, floor in ((256, 0), (512, 256), (768, 512), (1024, 768)):
        store.save(ordinal, state(ordinal))
        assert store.floor == floor, "the journal keeps what a replay from the older one needs"
        assert same(store.load(), ordinal)
    assert store.ordinals == [768, 1024]
    store.save(1024, state(1024))
    assert store.ordinals == [768, 1024]


def test_damage_anywhere_is_noticed(store: CheckpointStore, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    store.save(256, state(256))
    store.save(512, state(512))
    path = tmp_path / "checkpoint-00000000000000000512.zip"
    whole = path.read_bytes()
    chance = random.Random(1)
    damaged = [whole[: chance.randrange(len(whole))] for _ in range(40)] + [b"", whole + whole, whole[100:]]
    for _ in range(300):
        place = chance.randrange(len(whole))
        damaged.append(whole[:place] + bytes([whole[place] ^ (1 << chance.randrange(8))]) + whole[place + 1 :])
    fell_back = 0
    for content in damaged:
        path.write_bytes(content)
        restored = store.load()
        # A flipped bit in a ZIP header that nobody needs (a date, a version) leaves the state whole.
        assert same(restored, 512) or (same(restored, 256) and len(restored.skipped) == 1)
        fell_back += bool(restored.skipped)
    assert fell_back > 250
    assert "checkpoint-00000000000000000512.zip: not used" in caplog.text


def test_when_both_are_damaged_the_journal_is_replayed(store: CheckpointStore, tmp_path: Path) -> None:
    for ordinal in (256, 512):
        store.save(ordinal, state(ordinal))
        (tmp_path / f"checkpoint-{ordinal:020d}.zip").write_bytes(b"rotten")
    restored = store.load()
    assert restored.checkpoint is None
    assert len(restored.skipped) == 2
    store.save(128, state(128))
    assert same(store.load(), 128)
    assert store.ordinals == [128], "what could not be used does not win later"


def test_a_state_of_another_structure_is_not_loaded(store: CheckpointStore, tmp_path: Path) -> None:
    store.save(256, state(256))
    restored = CheckpointStore(tmp_path, code="2").load()
    assert restored.checkpoint is None
    assert "state of version '1', this is '2'" in restored.skipped[0]


def test_another_format_is_not_loaded(store: CheckpointStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    store.save(256, state(256))
    monkeypatch.undo()
    assert "format 2" in store.load().skipped[0]


def test_a_renamed_checkpoint_is_not_believed(store: CheckpointStore, tmp_path: Path) -> None:
    store.save(256, state(256))
    (tmp_path / "checkpoint-00000000000000000256.zip").rename(tmp_path / "checkpoint-00000000000000000999.zip")
    assert store.load().checkpoint is None


class Crash(BaseException):
    """The process died here."""


@pytest.mark.parametrize("error", [Crash(), OSError(28, "No space left on device")], ids=["crash", "full disk"])
def test_a_failure_at_any_step_leaves_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    for number in range(60):
        folder = tmp_path / str(number)
        store = CheckpointStore(folder, code="1")
        for ordinal in (256, 512):
            store.save(ordinal, state(ordinal))
        left = [number]

        def failing(step: Callable[..., Any], left: list[int] = left) -> Callable[..., Any]:
            def run(*args: Any, **kwargs: Any) -> Any:
                left[0] -= 1
                if left[0] == -1:
                    raise error
                return step(*args, **kwargs)

            return run

        with monkeypatch.context() as patched:
            patched.setattr(checkpoint._Hashing, "write", failing(checkpoint._Hashing.write))
            patched.setattr(checkpoint.os, "fsync", failing(os.fsync))
            patched.setattr(checkpoint, "sync", failing(checkpoint.sync))
            for name in ("open", "replace", "unlink"):
                patched.setattr(Path, name, failing(getattr(Path, name)))
            try:
                store.save(768, state(768))
            except (Crash, StorageError):
                failed = True
            else:
                failed = False
        again = CheckpointStore(folder, code="1")
        restored = again.load()
        assert same(restored, 512) or same(restored, 768)
        assert restored.skipped == ()
        assert not list(folder.glob("*.tmp"))
        again.save(1024, state(1024))
        assert len(again.ordinals) == 2
        if not failed:
            assert same(restored, 768)
            break
    assert 5 < number < 59


WORKER = """
import sys
import polars as pl
from pathlib import Path
from otel_ir.store.checkpoint import CheckpointStore
store = CheckpointStore(Path(sys.argv[1]), code="1")
print("ready", flush=True)
for n in range(1, 1_000_000):
    store.save(n, {"windows": pl.DataFrame({"n": [n] * 50}), "clock": str(n).encode()})
    print(n, flush=True)
"""


def test_kill_9_leaves_a_whole_one(tmp_path: Path) -> None:
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    answers = [worker.stdout.readline().strip() for _ in range(25)]
    os.kill(worker.pid, signal.SIGKILL)
    answers += worker.stdout.read().split()
    worker.stdout.close()
    worker.wait()
    newest = int(answers[-1])
    restored = CheckpointStore(tmp_path, code="1").load()
    assert same(restored, newest) or same(restored, newest + 1)
    assert restored.skipped == ()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        CheckpointStore(tmp_path / "file" / "checkpoints", code="1")
