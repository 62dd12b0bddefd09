"""Random rules with every modifier over random events with hostile values: the compiled engine agrees with the row-by-row reference."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from otel_ir.sigma.evaluate import Evaluator

from . import reference
from .conftest import library_of

TEXT = st.text(alphabet="aAbB\u00e9\u00c9\u03a3\u03c3\u03c2\u0130\u00df*?\\/-.\u2013 \n%01", max_size=7) | st.sampled_from(
    ["\\cmd.exe", "C:\\a\\b.exe", " -enc ", "/c", "true", "null", "\u202ex", "\U0001f600", "9" * 40]
)
ASCII = st.text(alphabet="abAB -/.1", min_size=1, max_size=5)
NUMBER = st.integers(-3, 3) | st.sampled_from([0.5, 1.5, -1.5, 4688, 1e300])
NUMERIC = st.sampled_from(["1", "2", "2.0", "-1", "1.5", "1e0", ".5", "", "x", "1 ", "+1", "4688", "inf", "nan", "0x1", "1_0"])
ADDRESS = st.sampled_from(["10.1.2.3", "10.128.0.0", "11.0.0.0", "::1", "2001:DB8:0:0:1::", "10.1.2", "::ffff:10.0.0.1", "fe80::1%a"])
TIME = st.sampled_from(
    ["2026-01-02T03:04:05Z", "2026-01-02 03:04:05.678", "2025-12-29T23:59:59+02:00", "2026-01-02", "2026-13-01T00:00:00"]
)
HOSTILE = st.sampled_from(["\ud800", "x\x00y", "\x1b[31m", 10**30, 2**63, -(2**63), 1e-7])
SCALAR = st.none() | st.booleans() | NUMBER | TEXT | NUMERIC | ADDRESS | TIME
VALUE = st.recursive(
    SCALAR | HOSTILE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["c", "d", "x"]), inner, max_size=2),
    max_leaves=4,
)
FIELDS = ("a", "b", "e.c", "e.d")
EVENT = st.dictionaries(st.sampled_from([*FIELDS, "e"]), VALUE, max_size=5)

PATTERN = st.lists(
    st.sampled_from(["a", "B", ".", "\\d", "\\w", "\\s", "[ab]", "[^a]", "\\\\", "\\.", "^", "$", "\\b", "(?:ab|b)", "é", "x?", "a+", "-"]),
    min_size=1,
    max_size=4,
).map("".join)
NETWORK = st.sampled_from(["10.0.0.0/9", "10.1.0.0/16", "0.0.0.0/0", "2001:db8::/32", "::/3", "::1/128", "fe80::/10"])


def some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return values | st.lists(values, min_size=1, max_size=4)


def chain(*options: str) -> st.SearchStrategy[str]:
    return st.sampled_from([f"|{option}" if option else "" for option in options])


LINK = chain("", "all", "neq", "all|neq")
PART = chain("", "contains", "startswith", "endswith")
# modifiers, and the values that they take
TESTS: list[tuple[list[st.SearchStrategy[str]], st.SearchStrategy[Any]]] = [
    ([LINK], some(SCALAR)),
    ([PART, chain("", "cased"), LINK], some(TEXT | NUMERIC)),
    ([chain("windash"), PART, chain("", "cased"), LINK], some(ASCII.filter(lambda text: text.count("-") + text.count("/") < 4))),
    ([chain("re"), chain("", "i", "m", "s", "i|s"), LINK], some(PATTERN)),
    ([chain("re"), chain("contains", "startswith", "endswith")], some(PATTERN)),
    ([chain("cidr"), LINK], some(NETWORK)),
    ([chain("lt", "lte", "gt", "gte"), LINK], some(NUMBER)),
    (
        [chain("base64", "wide|base64", "utf16be|base64", "utf16|base64", "utf16le|base64", "base64offset", "wide|base64offset"), PART],
        some(ASCII),
    ),
    ([chain("wide", "utf16be", "utf16le")], some(ASCII)),
    ([chain("minute", "hour", "day", "week", "month", "year"), LINK], some(st.sampled_from([0, 1, 2, 3, 4, 12, 23, 2026]))),
]
BOUND = ("exists", "fieldref")


def item(test: tuple[list[st.SearchStrategy[str]], st.SearchStrategy[Any]]) -> st.SearchStrategy[tuple[str, Any]]:
    modifiers, values = test
    return st.tuples(st.tuples(st.sampled_from(FIELDS), *modifiers).map("".join), values)


ITEM = st.one_of(
    *map(item, TESTS),
    st.tuples(st.sampled_from(FIELDS).map("{}|exists".format), st.booleans()),
    st.tuples(st.tuples(st.sampled_from(FIELDS), chain("fieldref"), PART, chain("", "neq")).map("".join), some(st.sampled_from(FIELDS))),
)
MAP = st.lists(ITEM, min_size=1, max_size=3).map(dict)
KEYWORDS = some(TEXT | NUMBER | st.booleans()) | st.dictionaries(
    st.sampled_from(["|all", "|contains", "|cased", "|startswith", "|contains|all"]), some(TEXT), min_size=1, max_size=1
)
SELECTION = MAP | st.lists(MAP, min_size=1, max_size=3) | KEYWORDS
NAMES = ("sel_a", "sel_b", "filter_c", "_hidden")
CONDITION = st.recursive(
    st.sampled_from([*NAMES, "1 of sel_*", "all of sel_*", "1 of them", "all of them", "1 of filter*", "any of *_b"]),
    lambda inner: (
        inner.map("not ({})".format)
        | st.tuples(inner, st.sampled_from(["and", "or", "and not"]), inner).map(" ".join)
        | inner.map("({})".format)
    ),
    max_leaves=5,
)
DETECTION = st.fixed_dictionaries(dict.fromkeys(NAMES, SELECTION))


@settings(max_examples=400, deadline=None)
@given(DETECTION, some(CONDITION), st.lists(EVENT, min_size=1, max_size=6), st.integers(1, 6))
def test_agrees_with_the_reference(detection: dict[str, Any], condition: Any, events: list[dict[str, Any]], batch: int) -> None:
    library = library_of({"title": "t", "logsource": {"product": "any"}, "detection": {**detection, "condition": condition}})
    assume(not library.errors)
    evaluator = Evaluator(library)
    assert not library.errors
    numbered = [json.loads(json.dumps(event)) | {"\x00at": at} for at, event in enumerate(events)]
    lines = [json.dumps(event) for event in numbered]
    hits = {event["\x00at"] for start in range(0, len(lines), batch) for _, event in evaluator.run(lines[start : start + batch])}
    (entry,) = library.entries
    printable = [json.loads(line.replace("\\ud800", "?")) for line in lines]  # half a surrogate pair is read as "?"
    assert hits == {at for at, event in enumerate(printable) if reference.matches(entry.sigma.detection, event)}
