"""The table of the backend: what each kind of Sigma value asks of a column, as a Polars expression.

To add an operator, add a row to ``OPERATORS`` (pySigma's value type -> function). A row is called with the columns, the field
(None: a keyword, looked for in every column of words) and the value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import polars as pl
from sigma import types

from otel_ir.errors import RuleError
from otel_ir.sigma.columns import FINAL_SIGMA, SIGMA, Columns, Test, View, as_folded, as_lower, as_number, as_text, as_time
from otel_ir.sigma.pcre import to_rust
from otel_ir.sigma.regex import checked, classify

Operator = Callable[[Columns, str | None, Any], pl.Expr]


def _test(columns: Columns, field: str | None, view: View, test: Test) -> pl.Expr:
    return columns.test_keywords(view, test) if field is None else columns.test(field, view, test)


def _bound(field: str | None, what: str) -> str:
    if field is None:
        raise RuleError(f"{what} needs a field")
    return field


# Strings

_ONE: dict[str, Callable[[pl.Expr, str], pl.Expr]] = {
    "equals": lambda text, value: text == value,
    "contains": lambda text, value: text.str.contains(value, literal=True),
    "startswith": lambda text, value: text.str.starts_with(value),
    "endswith": lambda text, value: text.str.ends_with(value),
    "any": lambda text, _: text.is_not_null(),
    "pattern": lambda text, value: text.str.contains(value),
}
_MANY: dict[str, Callable[[pl.Expr, list[str]], pl.Expr]] = {
    "equals": lambda text, values: text.is_in(values),
    "contains": lambda text, values: text.str.contains_any(values),
}
"""Where many values cost what one does."""


def string_kind(value: Any, *, keyword: bool) -> tuple[bool, str, str]:
    """Cased, operator and operand of a SigmaString. A keyword without wildcards at its ends is a part of the text."""
    for part in value.s:
        if isinstance(part, types.Placeholder):
            raise RuleError(f"placeholder %{part.name}% has no values", hint="write the values in its place, or give --placeholders FILE")
    cased = isinstance(value, types.SigmaCasedString)
    if keyword:
        star = types.SpecialChars.WILDCARD_MULTI
        value = star + (value if value.s else types.SigmaString("")) + star
    kind, operand = classify(value)
    return cased, kind, operand


def strings(columns: Columns, field: str | None, cased: bool, kind: str, operands: Sequence[str]) -> pl.Expr:
    """Any of ``operands``, which share an operator, in a field (None: anywhere)."""
    if cased:
        view: View = as_text
    else:
        operands = _folded(operands)
        view = as_folded if any(SIGMA in operand for operand in operands) else as_lower
    if kind == "pattern":
        operands = [checked(operand) for operand in operands]
    if len(operands) > 1 and kind in _MANY:
        return _test(columns, field, view, lambda text: _MANY[kind](text, list(operands)))
    tests = [_test(columns, field, view, lambda text, value=operand: _ONE[kind](text, value)) for operand in operands]  # type: ignore[misc]
    return any_of(tests)


def _folded(operands: Sequence[str]) -> list[str]:
    """As ``as_folded`` does to a column; the same code, where another version of Unicode could make a difference."""
    if all(operand.isascii() for operand in operands):
        return [operand.lower() for operand in operands]
    return pl.Series(operands, dtype=pl.String).str.to_lowercase().str.replace_all(FINAL_SIGMA, SIGMA, literal=True).to_list()


def _string(columns: Columns, field: str | None, value: Any) -> pl.Expr:
    cased, kind, operand = string_kind(value, keyword=field is None)
    return strings(columns, field, cased, kind, [operand])


def _regular_expression(columns: Columns, field: str | None, value: Any) -> pl.Expr:
    flags = "".join(sorted(value.sigma_to_re_flag[flag] for flag in value.flags))
    pattern = checked(to_rust(str(value.regexp), flags))
    return _test(columns, field, as_text, lambda text: text.str.contains(pattern))


# Numbers, truth, nothing


def _number(columns: Columns, field: str | None, value: Any) -> pl.Expr:
    if field is None:
        return strings(columns, None, False, "contains", [str(value.number)])
    return numbers(columns, field, [value.number])


def numbers(columns: Columns, field: str, values: Sequence[int | float]) -> pl.Expr:
    """Any of ``values``; a text that is a number counts as that number."""
    if len(values) == 1:
        return columns.test(field, as_number, lambda number: number == _operand(values[0]))
    return columns.test(field, as_number, lambda number: number.cast(pl.Float64).is_in([float(value) for value in values]))


def _operand(number: int | float) -> int | float:
    """Polars' integers have 64 bits; pySigma makes an integer of any large number."""
    return number if abs(number) < 2**63 else float(number)


_COMPARE: dict[str, Callable[[pl.Expr, float], pl.Expr]] = {
    "LT": lambda number, value: number < value,
    "LTE": lambda number, value: number <= value,
    "GT": lambda number, value: number > value,
    "GTE": lambda number, value: number >= value,
    "NEQ": lambda number, value: number != value,
}


def _compare(columns: Columns, field: str | None, value: Any) -> pl.Expr:
    return columns.test(
        _bound(field, "a comparison"), as_number, lambda number: _COMPARE[value.op.name](number, _operand(value.number.number))
    )


def _truth(columns: Columns, field: str | None, value: Any) -> pl.Expr:
    return strings(columns, field, False, "contains" if field is None else "equals", ["true" if value.boolean else "false"])


def _null(columns: Columns, field: str | None, value: Any) -> pl.Expr:
    del value
    return columns.is_null(_bound(field, "null"))


def _exists(columns: Columns, field: str | None, value: Any) -> pl.Expr:
    present = columns.exists(_bound(field, "exists"))
    return present if value.exists else ~present


_PARTS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "MINUTE": lambda time: time.dt.minute(),
    "HOUR": lambda time: time.dt.hour(),
    "DAY": lambda time: time.dt.day(),
    "WEEK": lambda time: time.dt.week(),
    "MONTH": lambda time: time.dt.month(),
    "YEAR": lambda time: time.dt.year(),
}


def _time_part(columns: Columns, field: str | None, value: Any) -> pl.Expr:
    part, number = _PARTS[value.timestamp_part.name], int(value.number)
    return columns.test(_bound(field, "a part of a time"), as_time, lambda time: part(time) == number)


# Other fields, networks, alternatives


def _field_reference(columns: Columns, field: str | None, value: Any) -> pl.Expr:
    """Both sides as lower-case text, so that ``5`` and ``"5"`` are the same. Of several values any may be equal, none is a beginning."""
    name, other = _bound(field, "fieldref"), str(value.field)
    columns.used |= {name, other}
    kind = _REFERENCES[(value.starts_with, value.ends_with)]
    left, right = columns.dtype(name), columns.dtype(other)
    if kind == "equals" and (isinstance(left, pl.List) or isinstance(right, pl.List)):
        return _values(name, left).list.set_intersection(_values(other, right)).list.len() > 0
    return _ONE[kind](_single(name, left), _single(other, right))  # type: ignore[arg-type]


_REFERENCES = {(False, False): "equals", (True, True): "contains", (True, False): "startswith", (False, True): "endswith"}


def _single(name: str, dtype: pl.DataType) -> pl.Expr:
    """The value of a column; of lists, where it is the only one."""
    if not isinstance(dtype, pl.List):
        return as_lower(pl.col(name), dtype)
    return pl.when(pl.col(name).list.len() == 1).then(as_lower(pl.col(name).list.get(0, null_on_oob=True), pl.String()))


def _values(name: str, dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, pl.List):
        return pl.col(name).list.eval(as_lower(pl.element(), pl.String()).drop_nulls())
    return pl.concat_list(as_lower(pl.col(name), dtype)).list.drop_nulls()


_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"


def _cidr(columns: Columns, field: str | None, value: Any) -> pl.Expr:
    network = value.network
    test = _in_ipv4(network) if isinstance(network, IPv4Network) else _in_ipv6(network)
    return _test(columns, field, as_lower, test)


def _in_ipv4(network: IPv4Network) -> Test:
    """One pattern: fixed octets, the values of the divided octet, any octets."""
    fixed, rest = divmod(network.prefixlen, 8)
    octets = [str(octet) for octet in network.network_address.packed[:fixed]]
    if rest:
        first = network.network_address.packed[fixed]
        octets.append("(?:" + "|".join(str(octet) for octet in range(first, first + 2 ** (8 - rest))) + ")")
    octets += [_OCTET] * (4 - len(octets))
    pattern = checked("^" + r"\.".join(octets) + "$")
    return lambda text: text.str.contains(pattern)


_GROUP = "[0-9a-f]{1,4}"
_IPV6 = f"^(?:{_GROUP}:){{7}}{_GROUP}$|^(?:{_GROUP}(?::{_GROUP}){{0,6}})?::(?:{_GROUP}(?::{_GROUP}){{0,6}})?$"


def _in_ipv6(network: IPv6Network) -> Test:
    """A prefix of the address written out as 32 hex digits (RFC 4291, 2.2: groups lose leading zeros, ``::`` is groups of zeros)."""
    digits = network.network_address.exploded.replace(":", "")
    fixed, rest = divmod(network.prefixlen, 4)
    first = int(digits[fixed], 16) if rest else 0
    partial = "[" + "".join(f"{digit:x}" for digit in range(first, first + 2 ** (4 - rest))) + "]" if rest else ""
    pattern = checked(f"^{digits[:fixed]}{partial}")

    def test(text: pl.Expr) -> pl.Expr:
        address = text.str.replace("%.*$", "")  # the zone (RFC 4007, 11) is no part of the number
        valid = address.str.contains(_IPV6)
        for missing in (1, 2, 3):
            address = address.str.replace_all(rf"\b([0-9a-f]{{{4 - missing}}})\b", "0" * missing + "${1}")
        halves = address.str.split_exact("::", 1)
        left, right = (halves.struct.field(f"field_{side}").fill_null("").str.replace_all(":", "", literal=True) for side in (0, 1))
        compressed = address.str.contains("::", literal=True)
        fits = ~compressed | (left.str.len_chars() + right.str.len_chars() <= 28)
        return valid & fits & (left + right.str.zfill(32 - left.str.len_chars().clip(0, 32))).str.contains(pattern)

    return test


def _expansion(columns: Columns, field: str | None, value: Any) -> pl.Expr:
    return any_of(list(alternatives(columns, [(field, item) for item in value.values])))


def alternatives(columns: Columns, tests: Iterable[tuple[str | None, Any]]) -> Iterator[pl.Expr]:
    """The parts of an OR of (field, value), values of the same field and kind together: a list of a thousand names is one test."""
    groups: dict[tuple[str | None, bool, str], list[str]] = {}
    counted: dict[str, list[int | float]] = {}
    for field, value in _flat(tests):
        if isinstance(value, types.SigmaString):
            cased, kind, operand = string_kind(value, keyword=field is None)
            groups.setdefault((field, cased, kind), []).append(operand)
        elif type(value) is types.SigmaNumber and field is not None:
            counted.setdefault(field, []).append(value.number)
        else:
            yield operator(value)(columns, field, value)
    for (field, cased, kind), operands in groups.items():
        yield strings(columns, field, cased, kind, list(dict.fromkeys(operands)))
    for name, values in counted.items():
        yield numbers(columns, name, values)


def _flat(tests: Iterable[tuple[str | None, Any]]) -> Iterator[tuple[str | None, Any]]:
    for field, value in tests:
        if isinstance(value, types.SigmaExpansion):
            yield from _flat((field, item) for item in value.values)
        else:
            yield field, value


def any_of(parts: list[pl.Expr]) -> pl.Expr:
    return parts[0] if len(parts) == 1 else pl.any_horizontal(parts)


OPERATORS: dict[type, Operator] = {
    types.SigmaString: _string,
    types.SigmaCasedString: _string,
    types.SigmaRegularExpression: _regular_expression,
    types.SigmaNumber: _number,
    types.SigmaCompareExpression: _compare,
    types.SigmaBool: _truth,
    types.SigmaNull: _null,
    types.SigmaExists: _exists,
    types.SigmaTimestampPart: _time_part,
    types.SigmaFieldReference: _field_reference,
    types.SigmaCIDRExpression: _cidr,
    types.SigmaExpansion: _expansion,
}


def operator(value: Any) -> Operator:
    """The row for a value, ``RuleError`` where there is none."""
    try:
        return OPERATORS[type(value)]
    except KeyError:
        raise RuleError(f"{type(value).__name__} values are not part of a rule here") from None
