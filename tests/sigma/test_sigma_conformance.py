"""``conformance/*.yml``: small cases of every feature of the Sigma specification, each a rule, events that match and events that do not.

``s`` is a selection, ``d`` a whole detection, ``c`` a condition over the letters of its file; an event that is no map is the value of
the field ``f``. Every case runs three times: compiled in one frame, compiled event by event, and through the row-by-row reference.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_ir.sigma.evaluate import Evaluator
from otel_ir.sigma.load import Library, read_library
from otel_ir.sigma.pipeline import load_pipeline

from . import reference

RULE = "0b9dd7a8-36ad-4c86-b4f1-2f1c5e5a0f6d"
FILES = sorted(file for file in (Path(__file__).parent / "conformance").glob("*.yml") if not file.stem.startswith("correlation_"))


def _cases() -> list[Any]:
    found = []
    for file in FILES:
        topic = yaml.safe_load(file.read_text(encoding="utf-8"))
        for case in topic["cases"]:
            shared = {key: topic[key] for key in ("letters", "placeholders") if key in topic}
            found.append(pytest.param(shared | case, id=f"{file.stem}: {case['name']}"))
    return found


CASES = _cases()


def _detection(case: dict[str, Any]) -> dict[str, Any]:
    if "deep" in case:
        return {"a": {"f": 1}, "b": {"g": 1}, "condition": "(a or " * case["deep"] + "b" + ")" * case["deep"]}
    if "c" in case:
        return {**case["letters"], "condition": case["c"]}
    if "d" in case:
        return dict(case["d"])
    return {"selection": case["s"], "condition": "selection"}


def _event(case: dict[str, Any], written: Any) -> dict[str, Any]:
    if "c" in case:
        return dict.fromkeys(written, 1)
    if isinstance(written, dict):
        return dict(written)
    return case.get("events", {}).get(written) or {"f": written}


def _library(folder: Path, case: dict[str, Any]) -> Library:
    documents = [{"title": "case", "id": RULE, "logsource": {"product": "windows"}, "detection": _detection(case)}]
    if "filter" in case:
        written = case["filter"] | ({"rules": [RULE]} if case["filter"]["rules"] == ["RULE"] else {})
        documents.append({"title": "filter", "logsource": case.get("logsource", {"product": "windows"}), "filter": written})
    (folder / "rules").mkdir()
    (folder / "rules" / "case.yml").write_text(yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True), encoding="utf-8")
    files = {}
    for name in ("pipeline", "placeholders"):
        if name in case:
            files[name] = folder / f"{name}.yml"
            files[name].write_text(yaml.safe_dump(case[name], sort_keys=False), encoding="utf-8")
    pipeline = load_pipeline([files["pipeline"]] if "pipeline" in files else [], files.get("placeholders"))
    return read_library([folder / "rules"], pipeline)


def test_there_are_cases_of_everything() -> None:
    assert len(CASES) >= 300
    assert len({case.id for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES)
def test_case(case: dict[str, Any], tmp_path: Path) -> None:
    library = _library(tmp_path, case)
    evaluator = Evaluator(library)
    told = [str(error) for error in library.errors]
    if "error" in case:
        assert any(case["error"] in line for line in told), told
        assert not evaluator.entries
        return
    assert not told
    wanted = [True] * len(case["match"]) + [False] * len(case["miss"])
    events = [_event(case, one) for one in [*case["match"], *case["miss"]]]
    lines = [json.dumps(event | {"\x00at": at}) for at, event in enumerate(events)]
    at_once = {event["\x00at"] for _, event in evaluator.run(lines)}
    assert [number in at_once for number in range(len(events))] == wanted
    (entry,) = library.entries
    if case.get("python", True):  # whose expressions are not linear
        assert [reference.matches(entry.sigma.detection, event) for event in events] == wanted, "the reference"
    one_by_one = {event["\x00at"] for line in reversed(lines) for _, event in Evaluator(library).run([line])}
    assert one_by_one == at_once
