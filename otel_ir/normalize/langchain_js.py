"""LangChain.js: calls that a person refused. Its middleware answers for the tool and sends the agent back to its model.

What it gives ends in ``{…, AIMessage, ToolMessage with status error}], "jumpTo": "model"}``; the answer itself is any text.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from otel_ir.normalize.few import Mask, contains_any
from otel_ir.normalize.json_text import members, raw_list, raw_text, raws
from otel_ir.normalize.messages import MAX_CALLS, Call
from otel_ir.normalize.sources import Sources, pick

_BACK = '"jumpTo":"model"}'


def read_refusals(sources: Sources, where: Mask, source: str) -> list[tuple[int, Call]]:
    """The refused calls in this source, as decisions of an approval; rows in order."""
    rows, positions = sources.places(source)
    kept = where[rows]
    rows, texts = rows[kept], sources.gather(positions[kept])
    hits = contains_any(texts, (_BACK,))
    told = zip(rows[hits].tolist(), pick(texts, np.flatnonzero(hits)).to_list() if hits.any() else (), strict=True)
    return [(row, call) for row, text in told if text.endswith(_BACK) for call in _refused(text)]


def _refused(text: str) -> Iterator[Call]:
    answers: set[str | None] = set()
    for message in reversed(raw_list(bytes(raws(text).get("messages") or b"null"))):
        said = raws(bytes(raws(bytes(message)).get("kwargs") or b"null"))
        if "tool_call_id" in said and bytes(said.get("status") or b"") == b'"error"':
            answers.add(raw_text(bytes(said["tool_call_id"])))
            continue
        agent = raw_text(bytes(said.get("name") or b"null"))
        for item in raw_list(bytes(said.get("tool_calls") or b"null"))[:MAX_CALLS]:
            call = members(bytes(item))
            if call.get("id") in answers:
                yield Call("approval", call.get("id"), call.get("name"), call.get("args"), "rejected", agent=agent)
        return
