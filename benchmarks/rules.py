"""``python -m benchmarks.rules``: what rules cost an event, against their number, over process creations as ``rules eval`` reads them.

Rules and events are generated from a seed in the style of public Windows rules: images by their ending, options and paths within command
lines, patterns, filters. Which event matches which rule is planned, and every case asserts that exactly these matches are found.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import yaml

EVENTS = 30_000
PLANTED = 20
"""One event in so many is planned to match a rule, or to be filtered by it."""
PROGRAMS = [f"{name}.exe" for name in (
    "cmd", "powershell", "pwsh", "rundll32", "regsvr32", "mshta", "wscript", "cscript", "certutil", "bitsadmin", "schtasks", "net", "sc",
    "reg", "wmic", "msiexec", "explorer", "svchost", "services", "winword", "excel", "outlook", "chrome", "firefox", "python", "node",
)]  # fmt: skip
FOLDERS = [
    "C:\\Windows\\System32",
    "C:\\Windows\\SysWOW64",
    "C:\\Program Files\\Vendor",
    "C:\\Users\\ann\\AppData\\Local\\Temp",
    "D:\\Tools",
]
OPTIONS = [" -enc ", " /c ", " /create ", " -nop ", " add ", " -ExecutionPolicy ", "javascript:", " /transfer ", " -urlcache ", " delete "]
TRUSTED = "C:\\Program Files\\Trusted\\agent.exe"


class Case(NamedTuple):
    """One line of the table."""

    rules: int
    regex_share: float
    batch: int
    load_s: float
    cpu_us_per_event: float
    peak_mib: float
    matches: int


def rule(number: int, *, regex: bool) -> dict[str, Any]:
    """The rule that looks for the word ``needle(number)``."""
    chance = random.Random(number)
    program, option, word = chance.choice(PROGRAMS), chance.choice(OPTIONS), needle(number)
    others = chance.sample(PROGRAMS, 3)
    command: dict[str, Any] = (
        {"CommandLine|re": f"{word}[0-9]{{2,4}}\\s+(?:on|off)"}
        if regex
        else {"CommandLine|contains|all": [option, word]}
        if number % 3
        else {"CommandLine|contains": [f"{word}0", f"{word}1", f"{word} ", *(f"-{word}{letter}" for letter in "abcdefgh")]}
    )
    detection: dict[str, Any] = {
        "selection_image": [{"Image|endswith": [f"\\{name}" for name in (program, *others)]}, {"OriginalFileName": [program, *others]}],
        "selection_command": command,
        "filter_main_trusted": {"ParentImage": TRUSTED, "User|contains": ["AUTHORI", "AUTORI"]},
        "filter_optional_log": {"CommandLine|contains|all": [f"{word}.log", "--quiet"]},
        "condition": "all of selection_* and not 1 of filter_main_* and not 1 of filter_optional_*",
    }
    if number % 5 == 0:
        detection["selection_parent"] = {
            "ParentImage|endswith": [f"\\{name}" for name in PROGRAMS],
            "CommandLine|windash|contains": f" -{word}x",
        }
        detection["condition"] = "(all of selection_image* and selection_command or selection_parent) and not 1 of filter_*"
    return {
        "title": f"Generated rule {number}",
        "id": str(uuid.UUID(int=number + 1)),
        "logsource": {"product": "windows", "category": "process_creation"},
        "detection": detection,
        "level": "medium",
    }


def needle(number: int) -> str:
    """A word that only rule ``number`` looks for."""
    return "".join(chr(97 + int(digit)) for digit in f"{number * 7919 % 100_000:05d}") + "z"


def event(number: int, rules: int) -> tuple[dict[str, Any], int | None]:
    """An event, and the number of the rule that it matches."""
    chance = random.Random(-number - 1)
    program, folder = chance.choice(PROGRAMS), chance.choice(FOLDERS)
    made = {
        "EventID": 1,
        "UtcTime": f"2026-01-01 00:{number // 60 % 60:02d}:{number % 60:02d}.000",
        "ProcessId": number,
        "Image": f"{folder}\\{program}",
        "OriginalFileName": program.upper() if number % 2 else program,
        "CommandLine": f'"{folder}\\{program}"{chance.choice(OPTIONS)}{number:x} C:\\ann\\{chance.getrandbits(64):x}\\{number % 97}.txt',
        "ParentImage": f"{chance.choice(FOLDERS)}\\{chance.choice(PROGRAMS)}",
        "ParentCommandLine": f"{chance.choice(PROGRAMS)} -k netsvcs",
        "User": chance.choice(["NT AUTHORITY\\SYSTEM", "DESK\\ann"]),
        "IntegrityLevel": chance.choice(["System", "High", "Medium"]),
        "Hashes": f"MD5={chance.getrandbits(128):032X},IMPHASH={chance.getrandbits(128):032X}",
    }
    if number % PLANTED:
        return made, None
    wanted = number // PLANTED % rules
    written = random.Random(wanted)
    program, option = written.choice(PROGRAMS), written.choice(OPTIONS)
    made |= {"Image": f"{folder}\\{program.upper()}", "OriginalFileName": "?"}
    made["CommandLine"] = f"{program}{option.upper()}{needle(wanted)}1 {needle(wanted)}22 on {number:x}"
    if number // PLANTED % 4 == 3:
        return made | {"ParentImage": TRUSTED, "User": "NT AUTHORITY\\SYSTEM"}, None
    return made, wanted


def generate(folder: Path, rules: int, events: int, regex_share: float) -> int:
    """Writes the rules and ``events.ndjson``; the number of matches that they must give."""
    (folder / "rules").mkdir()
    for first in range(0, rules, 50):
        every = round(1 / regex_share) if regex_share else 0
        documents = [rule(number, regex=bool(every) and number % every == 0) for number in range(first, min(first + 50, rules))]
        (folder / "rules" / f"{first}.yml").write_text(yaml.safe_dump_all(documents, sort_keys=False))
    expected = 0
    with (folder / "events.ndjson").open("w") as out:
        for number in range(events):
            made, wanted = event(number, rules)
            expected += wanted is not None
            out.write(json.dumps(made) + "\n")
    return expected


def run(folder: str, events: int, batch: int) -> None:
    """One case, in a process of its own; prints its figures."""
    from otel_ir.sigma import evaluate
    from otel_ir.sigma.load import read_library

    evaluate.BATCH = batch
    began = time.process_time()
    library = read_library([Path(folder) / "rules"])
    evaluator = evaluate.Evaluator(library)
    assert not library.errors, library.errors[:3]
    loaded = time.process_time()
    with (Path(folder) / "events.ndjson").open() as lines:
        found = sum(1 for _ in evaluator.run(lines))
    spent = time.process_time() - loaded
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([loaded - began, spent / events * 1e6, peak, found]))


def case(rules: int, *, events: int, regex_share: float, batch: int) -> Case:
    """Generates, runs, and compares what was found with what was planned."""
    with tempfile.TemporaryDirectory(prefix="otel-ir-bench-") as work:
        expected = generate(Path(work), rules, events, regex_share)
        code = f"from benchmarks.rules import run; run({work!r}, {events}, {batch})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-3000:])
        load, spent, peak, found = json.loads(done.stdout)
        assert found == expected, f"{rules} rules: {found} matches instead of {expected}"
        return Case(rules, regex_share, batch, load, spent, peak, found)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rules", description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS, help="events a case (default %(default)s)")
    parser.add_argument("--rules", type=int, nargs="+", default=[30, 300, 1000], help="numbers of rules (default %(default)s)")
    parser.add_argument(
        "--regex", type=float, nargs="+", default=[0.0, 0.1, 0.5], help="shares of regular expressions (default %(default)s)"
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[4096], help="events looked at together (default %(default)s)")
    options = parser.parse_args()
    names = ("rules", "regex share", "batch", "load CPU-s", "CPU µs an event", "times the first", "peak MiB", "matches")
    print(f"| {' | '.join(names)} |\n{'|---' * len(names)}|")
    for batch in options.batch:
        for share in options.regex:
            first = 0.0
            for rules in options.rules:
                one = case(rules, events=options.events, regex_share=share, batch=batch)
                first = first or one.cpu_us_per_event
                print(
                    f"| {one.rules:,} | {share:.0%} | {batch:,} | {one.load_s:.1f} | {one.cpu_us_per_event:,.0f} "
                    f"| {one.cpu_us_per_event / first:.1f} | {one.peak_mib:,.0f} | {one.matches:,} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
