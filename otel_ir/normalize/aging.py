"""Forgetting what is old where things stand in the order in which they came: what is newer is not looked at."""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import TypeVar

_T = TypeVar("_T")


def oldest(kept: dict[str, _T], is_old: Callable[[_T], bool], most: int | None = None) -> list[str]:
    """The keys of what is old, or more than ``most``, where all stands in the order in which it came: the others are not looked at."""
    more = 0 if most is None else len(kept) - most
    return [key for _, (key, _) in takewhile(lambda one: one[0] < more or is_old(one[1][1]), enumerate(kept.items()))]


def forget(kept: dict[str, _T], keys: list[str]) -> None:
    for key in keys:
        del kept[key]


def renew(kept: dict[str, list[_T]], is_new: Callable[[_T], bool], most: int | None = None) -> None:
    """Forgets what is old in lists that stand in the order in which they began; one that goes on begins again."""
    more = 0 if most is None else len(kept) - most
    for at, key in enumerate(oldest(kept, lambda items: not all(map(is_new, items)), most)):
        left = [one for one in kept.pop(key) if is_new(one)]
        if left and at >= more:
            kept[key] = left
