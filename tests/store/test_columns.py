"""Names of columns survive the table."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from otel_ir.store.columns import logical_name, stored_name


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=8), unique=True, max_size=12))
def test_names_come_back_and_never_collide(names: list[str]) -> None:
    taken: set[str] = set()
    for name in names:
        stored = stored_name(name, taken)
        assert logical_name(stored) == name
        assert stored.casefold() not in taken
        assert not set(stored) & set(" ,;{}()\n\t=")
        taken.add(stored.casefold())


def test_usual_names_stay() -> None:
    for name in ("gen_ai.tool.name", "ai.toolCall.name", "http.request.header.x-id", "größe"):
        assert stored_name(name, {"other"}) == name
