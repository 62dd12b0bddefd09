"""Regular expressions and wildcards, for the engine that runs them: Rust's ``regex`` (through Polars), linear in the text.

A rule is written for PCRE's common part (Sigma appendix, "Regular Expression"). ``pcre.to_rust`` rewrites what Rust reads
differently; what is not linear in the text (look-around, backreferences) is refused.
"""

from __future__ import annotations

import dataclasses
import re
from functools import lru_cache
from typing import Any

import polars as pl
import re2  # type: ignore[import-untyped]
from sigma.policy import SigmaPolicy
from sigma.policy.regex_engine import RegexEngine
from sigma.types import SigmaString, SpecialChars

from otel_ir.errors import RuleError
from otel_ir.sigma.pcre import to_rust

MAX_LENGTH = 4096
"""Characters of one pattern."""
_FLAGS = {re.IGNORECASE: "i", re.MULTILINE: "m", re.DOTALL: "s"}


class QuietRE2(RegexEngine):  # type: ignore[misc]
    """pySigma's own RE2 engine prints what it refuses to stderr; this one only raises. For patterns that pySigma itself runs."""

    error = re2.error

    def compile(self, pattern: str, flags: int = 0) -> Any:
        if len(pattern) > MAX_LENGTH:
            raise re2.error(f"longer than {MAX_LENGTH} characters")
        options = re2.Options()
        options.log_errors = False
        prefix = "".join(letter for flag, letter in _FLAGS.items() if flags & flag)
        try:
            return re2.compile(f"(?{prefix}){pattern}" if prefix else pattern, options=options)
        except re2.error as error:
            reason = error.args[0]
            raise re2.error(reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)) from None


class RuleEngine(QuietRE2):
    """Of the patterns in rules, which pySigma checks and Polars runs: what RE2 does not know but Rust does is accepted too."""

    def compile(self, pattern: str, flags: int = 0) -> Any:
        try:
            return super().compile(pattern, flags)
        except re2.error as refused:
            if len(pattern) > MAX_LENGTH:
                raise
            try:
                checked(to_rust(pattern, "".join(letter for flag, letter in _FLAGS.items() if flags & flag)))
            except RuleError:
                raise refused from None
            return None


POLICY = SigmaPolicy(regex_engine=RuleEngine(), allow_template_vars=False, vars_allowed_paths=None, allow_external_sources=False)
"""Of every rule: pySigma's SafePolicy. Nothing in a rule runs code, reads another file or opens a connection."""
PIPELINE_POLICY = dataclasses.replace(POLICY, regex_engine=QuietRE2())
"""Of processing pipelines, whose patterns pySigma runs."""

_WHY = {
    r"\(\?<?[=!]": "look-around is not supported: matching is linear in the text; use a second selection with 'not'",
    r"\\[1-9]|\(\?P=": "backreferences are not supported: matching is linear in the text",
    r"\(\?>|[*+?}]\+": "atomic groups and possessive quantifiers are not supported, and not needed: matching is linear in the text",
    r"\{\d{3,}|\{\d*,\d{3,}": "a repetition is bounded by what it writes out: 1000, nested ones multiplied",
}


def explain_refusal(pattern: str) -> str:
    """A hint why a pattern may have been refused, or an empty string."""
    return next((why for sign, why in _WHY.items() if re.search(sign, pattern)), "")


@lru_cache(maxsize=4096)
def checked(pattern: str) -> str:
    """``pattern`` if the engine compiles it, else ``RuleError``."""
    try:
        pl.select(pl.lit("").str.contains(pattern))
    except pl.exceptions.ComputeError as error:
        reason = re.search(r"error: (.*)", str(error).split("This error occurred")[0].rpartition("regex parse error")[2])
        what = reason[1] if reason else str(error).splitlines()[0]
        raise RuleError(f"regular expression {shorten(pattern)!r}: {what}", hint=explain_refusal(pattern)) from None
    return pattern


def shorten(text: str, limit: int = 80) -> str:
    """``text`` for a message, at most ``limit`` characters of it."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


_META = re.compile(r"[\\.+*?()|\[\]{}^$]")


def escape(text: str) -> str:
    """``text`` as a pattern that matches just it."""
    return _META.sub(r"\\\g<0>", text)


_SHAPES = {"": "equals", "s": "equals", "*": "any", "*s*": "contains", "s*": "startswith", "*s": "endswith"}


def classify(value: SigmaString) -> tuple[str, str]:
    """What a Sigma string with its wildcards asks for: an operator and its operand.

    ``("equals", s)``, ``("contains", s)`` for ``*s*``, ``("startswith", s)``, ``("endswith", s)``, ``("any", "")`` for ``*``,
    and ``("pattern", regex)`` for everything else, where ``*`` is any text (line breaks too) and ``?`` any one character.
    """
    wild, one = SpecialChars.WILDCARD_MULTI, SpecialChars.WILDCARD_SINGLE
    parts = [part for before, part in zip([None, *value.s], value.s, strict=False) if not (part is wild and before is wild)]
    shape = "".join("*" if part is wild else "?" if part is one else "s" for part in parts)
    kind = _SHAPES.get(shape, "pattern")
    return kind, _pattern(parts) if kind == "pattern" else "".join(part for part in parts if isinstance(part, str))


def _pattern(parts: list[Any]) -> str:
    """Leading and trailing ``*`` need no ``.*``: a search is not anchored."""
    wild = SpecialChars.WILDCARD_MULTI
    start, end = (len(parts) > 0 and parts[0] is wild), (len(parts) > 1 and parts[-1] is wild)
    inner = parts[1 if start else 0 : len(parts) - 1 if end else len(parts)]
    signs = {wild: ".*", SpecialChars.WILDCARD_SINGLE: "."}
    body = "".join(escape(part) if isinstance(part, str) else signs[part] for part in inner)
    return "(?s)" + ("" if start else "^") + body + ("" if end else "$")
