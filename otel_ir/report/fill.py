"""What people write into a report, and how it lives on when the report is written anew.

In the Markdown file a part for people stands between ``<!-- fill:KEY DIGEST -->`` and ``<!-- /fill:KEY -->``; the digest is that of what
stood there at first, so that an untouched part can be told. The last line lists digests of all generated lines: a line that is not
among them was written by somebody, wherever it stands. Nothing that somebody wrote is ever dropped: what has no place any more, a part
whose item is gone or a line outside of all parts, moves to the part ``kept`` at the end.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

KEPT = "kept"
_BEGIN = re.compile(r"<!-- fill:([a-z0-9-]{1,64}) ([0-9a-f]{8}) -->")
_END = re.compile(r"<!-- /fill:([a-z0-9-]{1,64}) -->")
_LINES = re.compile(r"<!-- lines:((?: [0-9a-f]{8})*) -->")


def digest(text: str) -> str:
    """8 hex digits of SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def begin(key: str, default: str) -> str:
    """The line before a part for people."""
    return f"<!-- fill:{key} {digest(default)} -->"


def end(key: str) -> str:
    """The line after it."""
    return f"<!-- /fill:{key} -->"


def seal(lines: Iterable[str]) -> str:
    """The last line of a file, from the generated ones."""
    return f"<!-- lines: {' '.join(sorted(digest(line.rstrip()) for line in lines if line.strip()))} -->"


@dataclass(slots=True)
class Written:
    """What people wrote: by part, and what stood outside of all parts."""

    parts: dict[str, str] = field(default_factory=dict)
    loose: list[str] = field(default_factory=list)

    def filled(self, defaults: Mapping[str, str]) -> dict[str, str]:
        """The parts of a report (key -> what stands there at first) in which somebody wrote something else."""
        return {key: self.parts[key] for key, default in defaults.items() if self.parts.get(key, default) != default}

    def kept(self, keys: Iterable[str]) -> str:
        """What belongs into the part ``kept`` of a report that has the parts ``keys``."""
        known = {*keys, KEPT}
        homeless = [f"({key})\n{text}" for key, text in self.parts.items() if key not in known and text]
        texts = [self.parts.get(KEPT, ""), *homeless, "\n".join(self.loose)]
        return "\n\n".join(text for text in texts if text)


@dataclass(slots=True)
class _Open:
    key: str
    digest: str
    lines: list[str] = field(default_factory=list)


def read_written(text: str) -> Written:
    """What people wrote into an earlier file. Any text is understood; a marker that is damaged is text."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    sealed = next((found for line in reversed(lines) if (found := _LINES.fullmatch(line.strip()))), None)
    ours = Counter(sealed[1].split() if sealed else ())
    written = Written()
    loose: list[str] = []
    stack: list[_Open] = []
    for line in lines:
        mark = line.strip()
        if sealed and mark == sealed[0]:
            continue
        if found := _BEGIN.fullmatch(mark):
            stack.append(_Open(found[1], found[2]))
        elif found := _END.fullmatch(mark):
            # A part whose end was deleted ends here at the latest. An end without a beginning means nothing.
            while any(part.key == found[1] for part in stack):
                part = stack.pop()
                _close(written, part, ours, whole=part.key == found[1])
                if part.key == found[1]:
                    break
        else:
            (stack[-1].lines if stack else loose).append(line)
    for part in reversed(stack):
        _close(written, part, ours, whole=False)
    written.loose = _not_ours(loose, ours)
    return written


def _close(written: Written, part: _Open, ours: Counter[str], *, whole: bool) -> None:
    """``whole``: both markers are there. Otherwise the part swallowed what was generated after it, which is left out again."""
    lines = part.lines if whole else _not_ours(part.lines, ours)
    text = "\n".join(lines).strip("\n")
    if (digest(text) == part.digest) if whole else not text:
        return
    there = written.parts.get(part.key)
    if there is None:
        written.parts[part.key] = text
    elif text not in there:
        written.parts[part.key] = f"{there}\n\n{text}" if there else text


def _not_ours(lines: list[str], ours: Counter[str]) -> list[str]:
    """The lines that were not generated; each generated one counts once."""
    found = []
    for line in lines:
        mark = digest(line.rstrip())
        if ours[mark] > 0:
            ours[mark] -= 1
        elif line.strip():
            found.append(line)
    return found
