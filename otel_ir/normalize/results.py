"""Named unwrappers of what frameworks wrap around the result of a tool; as those of ``unwrap.py``, they never raise."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from otel_ir.normalize.json_text import literal, members

Members = Mapping[str, str | None]
_MAX_REPR = 1 << 20
_QUOTED = r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+\""""
_AGNO = re.compile(rf"status='(\w{{1,32}})' result=({_QUOTED}|.*?) error=({_QUOTED}|.*?) updated_session_state=", re.DOTALL)
_MESSAGE = re.compile(rf"content=({_QUOTED})(?: |$)", re.DOTALL)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _unquoted(text: str) -> str | None:
    """What a repr says; ``None`` says nothing."""
    said = literal(text) if text[:1] in ("'", '"') else None
    return said if isinstance(said, str) else None if text == "None" else text


def _agno_result(text: str) -> Members:
    """Agno's ``status='failure' result=None error='…' updated_session_state=…`` -> ``content``, ``error``, ``failure``."""
    found = _AGNO.match(text[:_MAX_REPR])
    if not found:
        return {}
    failure = _unquoted(found.group(3)) if found.group(1) == "failure" else None
    return {
        "content": _unquoted(found.group(2)) or failure,
        "id": None,
        "error": "true" if found.group(1) == "failure" else None,
        "failure": failure,
    }


def _llama_index_result(text: str) -> Members:
    """llama-index's ``{"tool_name", "tool_kwargs", "tool_id", "tool_output": …}``, or the ``tool_output`` in it -> ``tool``,
    ``arguments``, ``id``, ``content``, and if it failed ``error``, ``failure``.
    """
    outer = members(text)
    output = members(outer.get("tool_output") or "") or outer
    if "raw_output" not in output:
        return {}
    failed = output.get("is_error") == "true"
    given = members(output.get("raw_input") or "")
    return {
        "tool": outer.get("tool_name"),
        "arguments": outer.get("tool_kwargs") or given.get("kwargs"),
        "id": outer.get("tool_id"),
        "content": output["raw_output"],
        "error": "true" if failed else None,
        "failure": output["raw_output"] if failed else None,
    }


def _message_repr(text: str) -> Members:
    """LangChain's ``content='…' name='…' tool_call_id='…'`` -> ``content``."""
    found = _MESSAGE.match(text[:_MAX_REPR])
    return {"content": _unquoted(found.group(1))} if found else {}


def _no_uuid(text: str) -> Members:
    """The id of a call -> ``id``, unless it is a UUID: that is the id of a run."""
    return {} if _UUID.fullmatch(text) else {"id": text}


RESULTS: dict[str, Callable[[str], Members]] = {
    "agno result": _agno_result,
    "llama index result": _llama_index_result,
    "message repr": _message_repr,
    "no uuid": _no_uuid,
}
