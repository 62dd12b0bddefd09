"""Named unwrappers of words and names: of texts that have no members themselves. As those of ``unwrap.py``, they never raise."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

Members = Mapping[str, str | None]
_ANSWERS = {"confirm": "accepted", "modify": "accepted", "reject": "rejected"}


def _verdict(text: str) -> Members:
    """``gen_ai.guardrail.verdict.type`` -> ``triggered``; what it may say besides these is left open."""
    word = text.strip().lower()
    stopped, passed = word in ("deny", "denied", "block", "blocked", "fail", "failed"), word in ("allow", "allowed", "pass", "passed")
    return {"triggered": "true" if stopped else "false"} if stopped or passed else {}


def _causes(text: str) -> Members:
    """BeeAI's chain of causes, as it stands -> ``failure``."""
    return {"failure": text}


def _called(text: str) -> Members:
    """``NAME.__call__`` and ``NAME.acall`` -> ``tool``."""
    name, _, how = text.rpartition(".")
    return {"tool": name} if name and how in ("__call__", "acall") else {}


def _confirmed(text: str) -> Members:
    """What a person answers when Haystack asks -> ``decision``."""
    return {"decision": _ANSWERS.get(text)}


def _not(text: str) -> Members:
    """``success`` of a check -> ``triggered``."""
    word = text.strip().lower()
    return {"triggered": str(word == "false").lower()} if word in ("true", "false") else {}


def _refusal(text: str) -> Members:
    """What a person decided -> ``executed``, where that was to refuse."""
    return {"executed": "rejected"} if text == "reject" else {}


def _success(text: str) -> Members:
    """``success`` of a call -> ``executed``, where it succeeded."""
    return {"executed": "yes"} if text.strip().lower() == "true" else {}


def _deferral(text: str) -> Members:
    """Pydantic AI's names of what a tool raises to be called later -> ``executed``."""
    waits = text.rpartition(".")[2] in ("ApprovalRequired", "CallDeferred")
    return {"executed": "pending_approval"} if waits else {}


def _after(separator: str) -> Callable[[str], Members]:
    def after(text: str) -> Members:
        head, found, tail = text.partition(separator)
        return {"rest": tail} if found and not head and tail else {}

    return after


def _before(suffix: str) -> Callable[[str], Members]:
    def before(text: str) -> Members:
        return {"rest": text.removesuffix(suffix)} if text.endswith(suffix) and len(text) > len(suffix) else {}

    return before


def _graph_of_tools(text: str) -> Members:
    """The path of a graph's node ``tools``, ``…graph.tools`` -> the graph in which it stands; at the top there is none."""
    return {"rest": text.removesuffix(".tools").rpartition(".")[2] or None} if text.endswith(".tools") else {}


def _as_member(name: str) -> Callable[[str], Members]:
    """A value of which the dialect says only one member of the arguments, as an object."""

    def as_member(text: str) -> Members:
        return {"object": json.dumps({name: text}, ensure_ascii=False, separators=(",", ":"))}

    return as_member


def _agent_run(text: str) -> Members:
    return {"agent": text[11:-1]} if text.startswith("agent_run [") and text.endswith("]") and len(text) > len("agent_run []") else {}


def _confirmation(text: str) -> Members:
    """What ADK answers in place of a tool that a person has to confirm -> ``executed``."""
    return {"executed": "rejected" if text.partition("This tool call ")[2].startswith("is rejected") else "pending_approval"}


WORDS: dict[str, Callable[[str], Members]] = {
    "refusal": _refusal,
    "success": _success,
    "deferral": _deferral,
    "not": _not,
    "causes": _causes,
    "called": _called,
    "confirmed": _confirmed,
    "verdict": _verdict,
    "after 'handoff to '": _after("handoff to "),
    "after 'execute_tool '": _after("execute_tool "),
    "in 'agent_run []'": _agent_run,
    "confirmation": _confirmation,
    "after 'handoff_to_'": _after("handoff_to_"),
    "after 'transfer_to_'": _after("transfer_to_"),
    "after 'Handoff-transfer_to_'": _after("Handoff-transfer_to_"),
    "graph of '.tools'": _graph_of_tools,
    "before '.run'": _before(".run"),
    "as command": _as_member("command"),
    "as file_path": _as_member("file_path"),
}
