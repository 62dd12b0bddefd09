"""What people write survives: between markers, moved, outside of them, markers damaged; and the same input gives the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thorough import examples

from otel_ir.errors import StorageError
from otel_ir.report import Report, build_report, files, write_report
from otel_ir.report.fill import Written, read_written
from otel_ir.report.html import to_html
from otel_ir.report.markdown import to_markdown
from tests.investigate.story import alert, demo_incident, demo_rows, incident, look

REPORT = build_report(look(demo_incident(), demo_rows()))
LATER = build_report(look(incident([alert([3], 1.1, "tool_call_burst", stage="anomaly")]), demo_rows()))
"""The same incident told differently: other sentences, fewer action items."""
FRESH = to_markdown(REPORT, Written())


def body(text: str) -> str:
    """The file without its last line, which changes with what stands in it."""
    return text.partition("<!-- lines:")[0]


def again(text: str, report: Report = REPORT) -> str:
    """The file made anew over ``text``."""
    return to_markdown(report, read_written(text))


def test_nobody_wrote_anything_yet() -> None:
    assert read_written(FRESH) == Written()
    assert again(FRESH) == FRESH


def test_what_stands_between_the_markers_is_kept() -> None:
    edited = FRESH.replace("(not written yet)", "An agent mailed\n\nthe *customer* table. <b>Ours.</b>", 1)
    assert body(again(edited)) == body(edited)
    assert again(again(edited)) == again(edited)
    assert body(again(again(edited, LATER))) == body(edited)
    assert "the *customer* table. &lt;b&gt;Ours.&lt;/b&gt;" in to_html(REPORT, read_written(edited))


def test_a_part_that_was_moved_goes_home() -> None:
    start, stop = FRESH.index("<!-- fill:lessons"), FRESH.index("<!-- /fill:lessons -->") + len("<!-- /fill:lessons -->\n")
    part = FRESH[start:stop].replace("(not written yet)", "We were lucky.")
    moved = part + FRESH[:start] + FRESH[stop:]
    made = again(moved)
    assert body(made) == body(FRESH[:start] + part + FRESH[stop:])


def test_a_part_inside_another_and_twice() -> None:
    inner = "<!-- fill:lessons 00000000 -->\nmine\n<!-- /fill:lessons -->"
    text = f"<!-- fill:summary 00000000 -->\nabove\n{inner}\nbelow\n<!-- /fill:summary -->\n{inner.replace('mine', 'mine too')}\n"
    assert read_written(text).parts == {"lessons": "mine\n\nmine too", "summary": "above\nbelow"}


def test_owner_and_deadline_of_an_item_stay_with_it() -> None:
    edited = FRESH.replace("Owner: (nobody yet)", "Owner: Ada", 1)
    assert "Owner: Ada" in again(edited)
    gone = again(edited, LATER)
    assert "## Kept" in gone
    assert "Owner: Ada" in gone.partition("## Kept")[2]
    assert again(gone, LATER) == gone


def test_what_was_written_outside_moves_to_the_end_once() -> None:
    edited = FRESH.replace("## Impact\n", "## Impact\n\nAda: we called the customer at nine.\n")
    made = again(edited)
    assert made.count("we called the customer at nine") == 1
    assert "we called the customer at nine" in made.partition("## Kept")[2]
    assert again(made) == made
    assert again(again(made, LATER), LATER).count("we called the customer at nine") == 1


@pytest.mark.parametrize("marker", ["<!-- fill:summary", "<!-- /fill:summary", "<!-- lines:"])
def test_a_marker_that_was_deleted_loses_nothing(marker: str) -> None:
    edited = FRESH.replace("(not written yet)", "Ada wrote this.", 1)
    edited = "\n".join(line for line in edited.split("\n") if not line.startswith(marker))
    made = again(edited)
    assert "Ada wrote this." in made
    assert again(made) == made


def test_a_part_that_says_what_it_said_at_first_is_not_filled() -> None:
    damaged = FRESH.replace("<!-- fill:summary caff2843 -->", "<!-- fill:summary 00000000 -->")
    assert again(damaged) == FRESH
    assert "summary" not in read_written(damaged).filled(REPORT.defaults)


def test_line_ends_of_windows_change_nothing() -> None:
    edited = FRESH.replace("(not written yet)", "One\nTwo", 1)
    assert again(edited.replace("\n", "\r\n")) == again(edited)


# Any edit at all: lines are inserted, deleted, moved, whole parts too. Whatever somebody wrote is there afterwards.

_WORDS = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp"), blacklist_characters="\x85"), min_size=1, max_size=20).filter(
    lambda text: text.strip()
)
_EDIT = st.one_of(
    st.tuples(st.just("insert"), st.floats(0, 1), _WORDS),
    st.tuples(st.just("delete"), st.floats(0, 1), st.integers(1, 12)),
    st.tuples(st.just("move"), st.floats(0, 1), st.floats(0, 1), st.integers(1, 12)),
    st.tuples(st.just("marker"), st.floats(0, 1), st.sampled_from(["summary", "lessons", "item-source", "unknown"]), st.booleans()),
)


def _edited(text: str, edits: list[tuple[object, ...]]) -> tuple[str, list[str]]:
    """The text after the edits, and the lines that somebody wrote and that still stand there."""
    lines = [(line, False) for line in text.split("\n")]
    for number, edit in enumerate(edits):
        place = int(float(str(edit[1])) * len(lines))
        if edit[0] == "insert":
            lines.insert(place, (f"W{number}: {edit[2]}", True))
        elif edit[0] == "delete":
            del lines[place : place + int(str(edit[2]))]
        elif edit[0] == "move":
            size = int(str(edit[3]))
            taken = lines[place : place + size]
            del lines[place : place + size]
            at = int(float(str(edit[2])) * len(lines))
            lines[at:at] = taken
        else:
            lines.insert(place, (f"<!-- /fill:{edit[2]} -->" if edit[3] else f"<!-- fill:{edit[2]} 00000000 -->", False))
    return "\n".join(line for line, _ in lines), [line for line, ours in lines if ours]


@settings(max_examples=examples(150))
@given(st.lists(_EDIT, max_size=12), st.booleans())
def test_nothing_that_somebody_wrote_is_lost(edits: list[tuple[object, ...]], later: bool) -> None:
    report = LATER if later else REPORT
    text, mine = _edited(FRESH, edits)
    made = again(text, report)
    for line in mine:
        assert line in made, line
    assert again(made, report) == made
    back = again(again(made, LATER), REPORT)
    for line in mine:
        assert line in back, line


@given(st.text(max_size=400))
def test_any_file_is_read(text: str) -> None:
    made = again(text)
    assert again(made) == made
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        assert line.strip() in made


# Files


def test_three_files_and_the_same_bytes_again(tmp_path: Path) -> None:
    paths, written = write_report(REPORT, tmp_path)
    assert [path.name for path in paths] == [f"{REPORT.incident_id}.{form}" for form in ("md", "html", "json")]
    assert written == Written()
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in paths]
    write_report(REPORT, tmp_path)
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in paths] == before
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_what_was_written_stands_in_all_three(tmp_path: Path) -> None:
    paths, _ = write_report(REPORT, tmp_path)
    paths[0].write_text(
        paths[0].read_text(encoding="utf-8").replace("(not written yet)", "An agent mailed the table.", 1), encoding="utf-8"
    )
    _, written = write_report(REPORT, tmp_path)
    assert written.parts == {"summary": "An agent mailed the table."}
    for path in paths:
        assert "An agent mailed the table." in path.read_text(encoding="utf-8")


def test_a_file_that_is_no_text_is_kept_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / f"{REPORT.incident_id}.md"
    path.write_bytes(b"caf\xe9 au lait\n")
    write_report(REPORT, tmp_path)
    assert b"caf\xe9 au lait" in path.read_bytes()


def test_a_file_that_is_too_large_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 10)
    path = tmp_path / f"{REPORT.incident_id}.md"
    path.write_text("longer than ten bytes", encoding="utf-8")
    with pytest.raises(StorageError, match="move it away"):
        write_report(REPORT, tmp_path)
    assert path.read_text(encoding="utf-8") == "longer than ten bytes"


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StorageError, match="--out"):
        write_report(REPORT, tmp_path / "file" / "folder")


@pytest.mark.parametrize(("incident", "name"), [("../../etc/x", "-..-etc-x"), ("..", "incident"), ("a/b\x00c", "a-b-c"), ("", "incident")])
def test_an_id_is_no_path(tmp_path: Path, incident: str, name: str) -> None:
    paths, _ = write_report(Report(incident, REPORT.title, REPORT.sections, REPORT.facts), tmp_path)
    assert paths[0] == tmp_path / f"{name}.md"
