"""The types of what stands in a ``correlation`` section, checked before pySigma sees it: that takes some of them for others, or fails."""

from __future__ import annotations

from typing import Annotated

import msgspec

from otel_ir.errors import RuleError
from otel_ir.sigma.extensions import located
from otel_ir.sigma.source import Document

MAX_GROUP_BY = 8
MAX_RULES = 31
"""Steps are bits of a 32-bit mask; one is kept for an absence."""

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Number = int | float | str | msgspec.UnsetType
"""A text is read as a number, as pySigma does."""


class ConditionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``condition:`` one comparison; of ``value_*`` also what is compared."""

    gt: Number = msgspec.UNSET
    gte: Number = msgspec.UNSET
    lt: Number = msgspec.UNSET
    lte: Number = msgspec.UNSET
    eq: Number = msgspec.UNSET
    neq: Number = msgspec.UNSET
    field: Name | Annotated[list[Name], msgspec.Meta(min_length=1, max_length=MAX_GROUP_BY)] | msgspec.UnsetType = msgspec.UNSET
    percentile: Annotated[int, msgspec.Meta(ge=1, le=100)] | msgspec.UnsetType = msgspec.UNSET


class CorrelationConfig(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """``correlation:`` what follows from several events. Whether the keys are Sigma's is ``check_keys``'s to say."""

    type: str | None = None
    rules: str | list[str] | None = None
    group_by: str | list[Name] | None = None
    timespan: str | None = None
    condition: ConditionConfig | str | None = None
    aliases: (
        Annotated[dict[str, Annotated[dict[str, Name], msgspec.Meta(max_length=MAX_RULES)]], msgspec.Meta(max_length=MAX_GROUP_BY)] | None
    ) = None
    generate: bool | None = None


def check_shape(document: Document) -> RuleError | None:
    """The first value of the section that is of the wrong type."""
    try:
        msgspec.convert(document.data["correlation"], CorrelationConfig)
    except msgspec.ValidationError as error:
        return located(document, str(error), "correlation", inner=ConditionConfig)
    return None
