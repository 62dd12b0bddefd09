r"""PCRE's common part in the syntax of Rust's ``regex``, where the two differ. Everything else passes unchanged.

==============================  ==============================================================================
written                         becomes
==============================  ==============================================================================
``$``, ``\Z``                   the end, or before a line break at the end (with ``m``: the end of each line)
``\e`` ``\h`` ``\0``            escape, blank, NUL
``\<`` and other signs          themselves (in Rust ``\<`` is a word boundary)
``{`` that repeats nothing      itself
``[ & - ~`` within brackets     themselves where Rust has set notation; ``-`` beside ``\w`` too
``(?=x)`` at the end            ``x``: a search asks only whether there is a match
``(?!c)`` at the end            another character than ``c``, or the end; ``c`` one character or class
``(?<=x)``, ``(?<!c)`` first    likewise
==============================  ==============================================================================

Possessive quantifiers are refused, since Rust would read them as something else. So are, by Rust, other look-around and backreferences.
"""

from __future__ import annotations

import re

from otel_ir.errors import RuleError

END = r"(?:\n?\z)"
_ESCAPES = {"Z": END, "e": r"\x1b", "h": r"[\t\p{Zs}]", "<": "<", ">": ">"}
_QUANTIFIER = re.compile(r"[*+?]|\{\d+(?:,\d*)?\}")
_TOO_MANY = re.compile(r"[*+]|\{\d+(?:,\d*)?\}")
_BRACED = re.compile(r"\\[xpPu]\{[^}]*\}")
_NAMED = re.compile(r"\[:\^?[a-z]+:\]")
_CLASS_ESCAPE = re.compile(r"\\[wWdDsSpP]")
_LOOK_AHEAD = re.compile(r"\(\?([=!])((?:\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|[^()\\\[\]|])*)\)(?=\||$)")
_LOOK_BEHIND = re.compile(r"\(\?<([=!])((?:\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|[^()\\\[\]|])*)\)")
_ONE = re.compile(r"\\[wWdDsS]|\\[^0-9A-Za-z]|\[(?:\\.|[^\]\\])+\]|[^\\\[\]*+?{}()|^$]")


def to_rust(pattern: str, flags: str = "") -> str:
    """``pattern`` with ``flags`` (of ``ims``) for Rust. ``RuleError`` for what Rust would accept and read differently."""
    lines = "m" in flags or re.search(r"\(\?[a-z]*m", pattern) is not None
    return (f"(?{flags})" if flags else "") + _Translation(pattern, lines=lines, dotall="s" in flags).run()


class _Translation:
    """Reads ``pattern`` from left to right; ``depth`` counts open groups."""

    def __init__(self, pattern: str, *, lines: bool, dotall: bool) -> None:
        self.pattern, self.lines, self.dotall = pattern, lines, dotall
        self.at, self.depth, self.first = 0, 0, True
        self.out = list[str]()

    def run(self) -> str:
        while self.at < len(self.pattern):
            self._step(self.pattern[self.at])
        return "".join(self.out)

    def _step(self, char: str) -> None:
        first, self.first = self.first, char == "|" and self.depth == 0
        quantifier = _QUANTIFIER.match(self.pattern, self.at)
        if char == "\\":
            self._escape()
        elif char == "[":
            self._brackets()
        elif quantifier and self.out:
            self._take(quantifier[0])
            if self.pattern[self.at : self.at + 1] == "?":
                self._take("?")
            if _TOO_MANY.match(self.pattern, self.at):
                what = "possessive quantifiers and repetitions of repetitions are not supported"
                raise RuleError(what, hint="matching is linear in the text without; use a group for a repetition")
        elif char == "{":
            self._take(char, "\\{")
        elif char == "$" and not self.lines:
            self._take(char, END)
        elif char == "(" and self.depth == 0 and self._look_around(first):
            pass
        else:
            self.depth += {"(": 1, ")": -1}.get(char, 0)
            group = re.compile(r"\(\?(?:P?<\w+>|[a-zA-Z-]*[:)]|<?[=!]|[#>|])?").match(self.pattern, self.at)
            self.depth -= group is not None and group[0].endswith(")")
            self._take(group[0] if group else char)

    def _take(self, text: str, written: str | None = None) -> None:
        self.out.append(text if written is None else written)
        self.at += len(text)

    def _escape(self) -> None:
        pair = self.pattern[self.at : self.at + 2]
        sign = pair[1:]
        if named := _BRACED.match(self.pattern, self.at):
            self._take(named[0])
        elif sign == "0" and not self.pattern[self.at + 2 : self.at + 3].isdigit():
            self._take(pair, r"\x00")
        elif sign and not sign.isascii():
            self._take(pair, sign)
        else:
            self._take(pair, _ESCAPES.get(sign))

    def _brackets(self) -> None:
        opening = re.compile(r"\[\^?\]?").match(self.pattern, self.at)
        assert opening is not None
        self._take(opening[0], opening[0][:-1] + "\\]" if opening[0].endswith("]") else None)  # a "]" that comes first stands for itself
        before_class = False
        while self.at < len(self.pattern):
            char, following = self.pattern[self.at], self.pattern[self.at + 1 : self.at + 2]
            named, is_class = _NAMED.match(self.pattern, self.at), _CLASS_ESCAPE.match(self.pattern, self.at) is not None
            if char == "\\":
                self._take(char + following, {"b": r"\x08", "e": r"\x1b", "<": "<", ">": ">"}.get(following))
            elif named:
                self._take(named[0])
            elif char == "]":
                self._take(char)
                return
            else:
                beside = char == "-" and (before_class or _CLASS_ESCAPE.match(self.pattern, self.at + 1) is not None)
                literal = char == "[" or beside or (char in "&-~" and following == char)
                self._take(char, "\\" + char if literal else None)
            before_class = is_class

    def _look_around(self, first: bool) -> bool:
        """Look-around at an outer edge of the pattern, where to consume what is looked at changes nothing. False: something else."""
        ahead = _LOOK_AHEAD.match(self.pattern, self.at)
        behind = _LOOK_BEHIND.match(self.pattern, self.at) if first else None
        found = ahead or behind
        if found is None:
            return False
        sign, inner = found[1], found[2]
        one = _ONE.fullmatch(inner)
        if sign == "!" and one is None:
            return False
        edge = r"\z" if ahead else r"\A"
        if sign == "=":
            written = f"(?:{to_rust(inner)})"
        elif inner == ".":
            written = edge if self.dotall else rf"(?:\n|{edge})"
        else:
            written = f"(?:{_other_than(inner)}|{edge})"
        self._take(found[0], written)
        return True


def _other_than(one: str) -> str:
    """The class of all characters (line breaks too) but those of ``one``."""
    if one.startswith("["):
        inside = to_rust(one)[1:-1]
        return f"[{inside[1:]}]" if inside.startswith("^") else f"[^{inside}]"
    return f"[^{one}]" if one.startswith("\\") or one not in "]&-~" else f"[^\\{one}]"
