"""Every operator of the table: what matches, what does not, and the edges. Written from the Sigma specification."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Matching = Callable[..., list[bool]]

# (selection, events that match, events that do not)
CASES: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "equals": ({"f": "abc"}, ["abc", "ABC", "aBc"], ["abcd", "xabc", "", None, 5, ["x"], {"f": "abc"}]),
    "equals, another script": ({"f": "ÄÖÜ ΟΔΟΣ"}, ["äöü οδος", "ÄÖÜ ΟΔΟΣ"], ["aou οδος"]),
    "equals, empty": ({"f": ""}, [""], [" ", None, "x"]),
    "equals, number as text": ({"f": "5"}, ["5", 5], [50, "05", 5.5]),
    "list": ({"f": ["a", "b", "C"]}, ["A", "b", "c"], ["d", "ab", None]),
    "list with everything": ({"f": ["a", "b*", 7, None, True]}, ["A", "bcd", 7, "7", None, True, "true"], ["c", 8, False]),
    "cased": ({"f|cased": "aB"}, ["aB"], ["ab", "AB", "aBc"]),
    "contains": ({"f|contains": "ell"}, ["Hello", "ELL"], ["helo", "", None, 11]),
    "contains, number": ({"f|contains": "23"}, ["123", 1234], ["132"]),
    "contains, several": ({"f|contains": ["ab", "cd"]}, ["xABx", "cd"], ["ac", "bd"]),
    "contains, all": ({"f|contains|all": ["ab", "cd"]}, ["cd-AB", "abcd"], ["ab", "cd"]),
    "contains, cased": ({"f|contains|cased": "eL"}, ["heLlo"], ["hello", "HELLO"]),
    "contains, empty": ({"f|contains": ""}, ["", "x"], [None]),
    "contains a part of a Greek word": ({"f|contains": "ΟΔΟΣ"}, ["ΟΔΟΣΑ", "οδος", "ΟΔΟΣ"], ["ΟΔΟ"]),
    "startswith": ({"f|startswith": "ab"}, ["ab", "ABc"], ["cab", "a", None]),
    "startswith, several": ({"f|startswith": ["ab", "x"]}, ["abc", "X"], ["cab"]),
    "endswith": ({"f|endswith": "\\cmd.exe"}, ["C:\\Windows\\CMD.exe", "\\cmd.exe"], ["cmd.exe", "\\cmd.exe "]),
    "wildcard star": ({"f": "a*c"}, ["ac", "abbbc", "A\nC"], ["acx", "xac", "ab"]),
    "wildcard question mark": ({"f": "a?c"}, ["abc", "aéc", "a?c"], ["ac", "abbc"]),
    "wildcard question mark alone": ({"f": "?"}, ["x", 5, "é"], ["", "xy", None]),
    "wildcard star alone": ({"f": "*"}, ["", "x", 0, False], [None, "\0missing"]),
    "wildcards at both ends and inside": ({"f": "*a*b*"}, ["ab", "xaxbx", "A B"], ["ba", "a"]),
    "double star": ({"f": "a**"}, ["a", "abc"], ["ba"]),
    "escaped star": ({"f": "a\\*c"}, ["a*c", "A*C"], ["abc", "ac", "a\\*c"]),
    "escaped question mark": ({"f": "a\\?"}, ["a?"], ["ab", "a\\?"]),
    "backslash": ({"f": "a\\b"}, ["a\\b"], ["ab", "a\\\\b"]),
    "two backslashes are one": ({"f": "a\\\\b"}, ["a\\b"], ["a\\\\b"]),
    "backslash before a wildcard": ({"f": "a\\\\*"}, ["a\\", "a\\b"], ["a", "a*", "ab"]),
    "three backslashes and a star": ({"f": "a\\\\\\*"}, ["a\\*"], ["a\\b", "a\\"]),
    "four backslashes": ({"f": "\\\\\\\\server"}, ["\\\\server"], ["\\server", "\\\\\\\\server"]),
    "regex characters are plain": ({"f": "(a+)[b].^$|{1}?"}, ["(a+)[b].^$|{1}x"], ["aab", "(a+)[b].^$|{1}"]),
    "re": ({"f|re": "a[0-9]+b"}, ["a12b", "xa1bx"], ["ab", "A1B", None]),
    "re, anchored": ({"f|re": "^a+$"}, ["aaa"], ["baa", "aab", ""]),
    "re, ignore case": ({"f|re|i": "^ab$"}, ["AB", "ab"], ["abc"]),
    "re, lines": ({"f|re|m": "^b$"}, ["a\nb\nc"], ["abc"]),
    "re, no lines": ({"f|re": "^b$"}, ["b"], ["a\nb\nc"]),
    "re, dot and line break": ({"f|re": "a.b"}, ["axb"], ["a\nb"]),
    "re, dot matches all": ({"f|re|s": "a.b"}, ["axb", "a\nb"], ["ab"]),
    "re, brackets that Rust reads otherwise": ({"f|re": r"^[^\[&&\]~~-]+[a[]$"}, ["xa", "x["], ["&a", "~a", "-["]),
    "re, word signs that Rust reads otherwise": ({"f|re": r"^\<a\>$"}, ["<a>"], ["a"]),
    "re, bracket first": ({"f|re": "^[]a]+$"}, ["]a]"], ["b"]),
    "re, POSIX class": ({"f|re": "^[[:digit:]x]+$"}, ["1x2"], ["d:"]),
    "re, several": ({"f|re": ["^a", "b$"]}, ["ax", "xb"], ["xax"]),
    "re on a number": ({"f|re": "^12"}, [123, "12"], [312]),
    "cidr 4": (
        {"f|cidr": "10.16.0.0/12"},
        ["10.16.0.0", "10.31.255.255"],
        ["10.15.255.255", "10.32.0.0", "10.16.0", "10.16.0.0.1", "x", None],
    ),
    "cidr 4, whole octets": (
        {"f|cidr": "192.168.1.0/24"},
        ["192.168.1.0", "192.168.1.255"],
        ["192.168.2.1", "192.168.1.256", "1192.168.1.1"],
    ),
    "cidr 4, one address": ({"f|cidr": "1.2.3.4/32"}, ["1.2.3.4"], ["1.2.3.5", "1.2.3.40", "01.2.3.4"]),
    "cidr 4, all": ({"f|cidr": "0.0.0.0/0"}, ["1.2.3.4"], ["::1", "1.2.3", "300.1.1.1"]),
    "cidr 6": (
        {"f|cidr": "2001:db8::/33"},
        ["2001:db8::1", "2001:0DB8:7fff:0:0:0:0:1"],
        ["2001:db8:8000::", "2001:db9::", "2001:db8", "10.0.0.1"],
    ),
    "cidr 6, compressed": (
        {"f|cidr": "::/127"},
        ["::", "::1", "0:0:0:0:0:0:0:1"],
        ["::2", "1::", ":::1", "::1::", "0:0:0:0:0:0:0:0:1", "::g"],
    ),
    "cidr 6, zone": ({"f|cidr": "fe80::/10"}, ["fe80::1%eth0", "FEBF::"], ["fec0::"]),
    "cidr, several": ({"f|cidr": ["10.0.0.0/8", "::1/128"]}, ["10.1.1.1", "::1"], ["11.0.0.0"]),
    "number": ({"f": 5}, [5, 5.0, "5", "5.0"], [6, "five", "", None, True, [6]]),
    "number, negative": ({"f": -1}, [-1, "-1"], [1]),
    "number, fraction": ({"f": 0.5}, [0.5, "0.5", ".5"], [5]),
    "number, large": ({"f": 9007199254740993}, [9007199254740993, "9007199254740993"], [9007199254740992, 9007199254740994]),
    "number, huge": ({"f": 123456789012345678901234567890}, [123456789012345678901234567890], [123456789012345678901234567891]),
    "numbers": ({"f": [1, 2.5]}, [1, 2.5, "2.5"], [2, 1.5]),
    "lt": ({"f|lt": 5}, [4, 4.9, -5, "4"], [5, 6, "x", None, "nan", True]),
    "lte": ({"f|lte": 5}, [5, 4], [5.1]),
    "gt": ({"f|gt": 5}, [6, "6", 1e300, "5.01"], [5, "inf", "", [1]]),
    "gte": ({"f|gte": 5}, [5, "5"], [4.99]),
    "gt, more than 64 bits": ({"f|gt": 2**70}, [2.0**71, "1e300"], [2**60, "x"]),
    "number, a huge fraction": ({"f": 1.5e300}, [1.5e300, "1.5e300"], [1.5e299]),
    "gt, fraction": ({"f|gt": 0.5}, [1, 0.6], [0.5, 0]),
    "true": ({"f": True}, [True, "true", "TRUE"], [False, 1, "1", None]),
    "false": ({"f": False}, [False, "false"], [True, 0, None, ""]),
    "null": ({"f": None}, [None, "\0missing"], ["", 0, False, "x", [], {}]),
    "exists": ({"f|exists": True}, ["x", "", None, 0, [], {}], ["\0missing"]),
    "does not exist": ({"f|exists": False}, ["\0missing"], ["x", None]),
    "neq": ({"f|neq": "a"}, ["b", None, "\0missing"], ["a", "A"]),
    "neq, number": ({"f|neq": 1}, [2, None], [1, "1"]),
    "several values, any": ({"f|startswith": "ab"}, [["x", "abc"], ["AB"]], [["x"], [], [None], [{"a": 1}]]),
    "several values, number": ({"f|gt": 5}, [[1, 9], ["7"]], [[1, 2], ["x"]]),
    "windash": ({"f|windash|contains": " -enc "}, ["x -enc y", "x /enc y", "x \u2013enc y", "x \u2015enc y"], ["x enc y"]),
    "base64": ({"f|base64|contains": "foobar"}, ["xxZm9vYmFyxx"], ["foobar"]),
    "base64offset": ({"f|base64offset|contains": "foobar"}, ["Zm9vYmFy", "IGZvb2Jhcg==", "ICBmb29iYXI="], ["foobar"]),
    "wide, base64offset": ({"f|wide|base64offset|contains": "ping"}, ["cABpAG4AZw", "AHAAaQBuAGcA"], ["ping"]),
    "hour": ({"f|hour": 3}, ["2026-01-01T03:59:59Z", "2026-01-01 03:00:00"], ["2026-01-01T13:00:00Z", "x", None]),
    "year": ({"f|year": 2026}, ["2026-05-05T00:00:00.5+02:00"], ["2025-05-05T00:00:00Z"]),
}  # fmt: skip


def _event(value: Any) -> dict[str, Any]:
    return {"g": 1} if value == "\0missing" else {"f": value}


@pytest.mark.parametrize("name", CASES)
def test_operator(name: str, matching: Matching) -> None:
    selection, yes, no = CASES[name]
    found = matching({"selection": selection}, [_event(value) for value in [*yes, *no]])
    assert dict(zip(map(repr, [*yes, *no]), found, strict=True)) == {
        **{repr(value): True for value in yes},
        **{repr(value): False for value in no},
    }


@pytest.mark.parametrize("name", CASES)
def test_operator_negated(name: str, matching: Matching) -> None:
    """An event without the field does not match a test of it, so it matches the negation."""
    selection, yes, no = CASES[name]
    found = matching({"selection": selection, "condition": "not selection"}, [_event(value) for value in [*yes, *no]])
    assert found == [False] * len(yes) + [True] * len(no)


@pytest.mark.parametrize(
    ("selection", "yes", "no"),
    [
        ({"a|fieldref": "b"}, [{"a": "X", "b": "x"}, {"a": 5, "b": "5"}], [{"a": "x", "b": "y"}, {"a": "x"}, {"b": "x"}, {}]),
        ({"a|fieldref": "b"}, [{"a": ["q", "x"], "b": "X"}, {"a": "x", "b": ["y", "x"]}], [{"a": "x", "b": []}]),
        ({"a|fieldref": "b"}, [{"a": ["1"], "b": ["1", "2"]}], [{"a": None, "b": [None]}, {"a": [], "b": []}]),
        ({"a|fieldref|startswith": "b"}, [{"a": "Xyz", "b": "xy"}], [{"a": "axy", "b": "xy"}, {"a": "x"}, {"a": ["xy", "z"], "b": "xy"}]),
        ({"a|fieldref|endswith": "b"}, [{"a": "Xyz", "b": "YZ"}], [{"a": "yza", "b": "yz"}]),
        ({"a|fieldref|contains": "b"}, [{"a": "Xyz", "b": "y"}], [{"a": "y", "b": "xyz"}]),
        ({"a|fieldref|neq": "b"}, [{"a": "x", "b": "y"}, {"a": "x"}], [{"a": "x", "b": "X"}]),
    ],
)  # fmt: skip
def test_field_reference(selection: Any, yes: list[Any], no: list[Any], matching: Matching) -> None:
    assert matching({"selection": selection}, [*yes, *no]) == [True] * len(yes) + [False] * len(no)


@pytest.mark.parametrize(
    ("keywords", "yes", "no"),
    [
        (["evil", "x?z"], [{"a": "so EVIL!"}, {"b": {"c": ["xyz"]}}, {"a": 1, "b": "devil"}], [{"a": "good"}, {"evil": "key"}, {}]),
        ({"|all": ["a b", "c"]}, [{"x": "A B", "y": "c"}, {"x": "a bc"}], [{"x": "a b"}, {"y": "c"}]),
        ({"|re": "^ev[il]+$"}, [{"a": "evil"}], [{"a": "evil!"}]),
        ([4688], [{"a": "id 4688"}, {"a": 4688}], [{"a": 468}]),
        ({"|contains": "x"}, [{"a": "axa"}], [{"a": "a"}]),
        ({"|startswith": "x"}, [{"a": "ax"}], [{"a": "a"}]),
        ("lone", [{"a": "alone"}], [{"a": "one"}]),
        ({"|cased": "Ab"}, [{"a": "xAbx"}], [{"a": "ab"}]),
    ],
)  # fmt: skip
def test_keywords(keywords: Any, yes: list[Any], no: list[Any], matching: Matching) -> None:
    assert matching({"selection": keywords}, [*yes, *no]) == [True] * len(yes) + [False] * len(no)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("one", "ab"),
        ("one and two", "b"),
        ("one or two", "abc"),
        ("not one", "cd"),
        ("one and not two", "a"),
        ("not one and not two", "d"),
        ("not (one and two)", "acd"),
        ("two or one and not two", "abc"),
        ("1 of o*", "ab"),
        ("any of them", "abc"),
        ("all of them", "b"),
        ("1 of *o", "bc"),
        ("not 1 of them", "d"),
        (["one", "two"], "abc"),
    ],
)
def test_conditions(condition: Any, expected: str, matching: Matching) -> None:
    events = [{"n": "a", "x": 1}, {"n": "b", "x": 1, "y": 1}, {"n": "c", "y": 1}, {"n": "d"}]
    found = matching({"one": {"x": 1}, "two": {"y": 1}, "_hidden": {"z": 1}, "condition": condition}, events)
    assert "".join(str(event["n"]) for event, hit in zip(events, found, strict=True) if hit) == expected


def test_maps_are_all_and_lists_are_any(matching: Matching) -> None:
    both = {"selection": {"a": 1, "b": [2, 3]}}
    assert matching(both, [{"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 1}, {"b": 2}]) == [True, True, False, False]
    either = {"selection": [{"a": 1}, {"b": 2, "c": 3}, {"d|contains|all": ["x", "y"]}]}
    assert matching(either, [{"a": 1}, {"b": 2}, {"b": 2, "c": 3}, {"d": "yx"}, {"d": "x"}]) == [True, False, True, True, False]


def test_a_thousand_values(matching: Matching) -> None:
    values = [f"value{n}" for n in range(1000)]
    assert matching({"selection": {"f": values}}, [{"f": "VALUE999"}, {"f": "value1000"}]) == [True, False]
    assert matching({"selection": {"f|contains": values}}, [{"f": "xx value10 xx"}, {"f": "value"}]) == [True, False]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"a": {"b": {"c": "x"}}}, True),
        ({"a.b.c": "x"}, True),
        ({"a.b": {"c": "x"}}, True),
        ({"a": {"b.c": "x"}}, True),
        ({"a": [{"b": {"c": "y"}}, {"b": {"c": "x"}}]}, True),
        ({"a": {"b": "x"}}, False),
        ({"a": "x"}, False),
        ({"a": None}, False),
        ({"a": {"b": {"c": {"d": "x"}}}}, False),
        ({"A": {"B": {"C": "x"}}}, False),
    ],
)
def test_nested_fields(event: Any, expected: bool, matching: Matching) -> None:
    assert matching({"selection": {"a.b.c": "x"}}, [event]) == [expected]
