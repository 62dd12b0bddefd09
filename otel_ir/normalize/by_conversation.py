"""What is kept by the id of a call: models that count their calls give one id in every conversation.

Each thing stands under its id, and under its id in its conversation if it names one; both lists are bounded. What names no conversation
may be of any.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from otel_ir.normalize.calls import MAX_ALIKE

_T = TypeVar("_T")
MOST = 64
"""Things with one id that are kept of all conversations; of one of them it is ``MAX_ALIKE``."""


def put(kept: dict[str, list[_T]], key: str, conversation: str | None, one: _T, spent: Callable[[_T], bool] | None = None) -> None:
    """Of too many the first goes that is ``spent``, else the oldest."""
    places = ((key, MOST),) if conversation is None else ((key, MOST), (_within(key, conversation), MAX_ALIKE))
    for place, most in places:
        alike = kept.setdefault(place, [])
        alike.append(one)
        if len(alike) > most:
            del alike[next((at for at, other in enumerate(alike) if spent is not None and spent(other)), 0)]


def find(kept: dict[str, list[_T]], key: str, conversation: str | None, of: Callable[[_T], Any]) -> list[_T]:
    """What has this id and may be of the conversation, as they came. ``of``: the conversation of a thing."""
    alike = kept.get(key, [])
    if conversation is None:
        return alike
    near = [one for one in alike if of(one) in (None, conversation)]
    return [one for one in kept.get(_within(key, conversation), ()) if one not in near] + near


def drop(kept: dict[str, list[_T]], key: str, conversation: str | None, one: _T) -> None:
    """Forgets a thing."""
    for place in (key, None if conversation is None else _within(key, conversation)):
        if place in kept and one in kept[place]:
            kept[place].remove(one)
            if not kept[place]:
                del kept[place]


def may_be_one(one: str | None, other: str | None) -> bool:
    """Whether two conversations do not contradict."""
    return one is None or other is None or one == other


def _within(key: str, conversation: str) -> str:
    # Both come from outside: the length keeps two pairs apart that read alike.
    return f"{len(conversation)}:{conversation}\x1f{key}"
