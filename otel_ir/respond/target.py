"""Whom an action is about: from what is known of an alert's agent to selectors that guards, the fold and adapters match with. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from otel_ir.model import Alert

AGENT, CONVERSATION, TRACE = "otel_ir.agent.id", "gen_ai.conversation.id", "trace_id"
_SOURCE, _MAX = "otel_ir.agent.id_source", 1024

_CHANGED = re.compile("\ufffd|…\\[\\d+ characters, sha256 [0-9a-f]{16}\\]$")
"""Of text that the ledger could not hold as it is (``store.rows.bounded``). Nobody is called that: it would select no call, and a canary
call with that name would be stopped all the same."""

SELECTORS = (AGENT, CONVERSATION, TRACE)
"""Keys of a target of which at least one must be there: a whole service is never contained."""


def target(alert: Alert) -> dict[str, str]:
    """What is known of the agent: canonical column names to values, those that are known."""
    values = {
        "otel_ir.tenant": alert.tenant,
        "service.name": alert.service,
        "service.instance.id": dict(alert.group).get("service.instance.id"),
        AGENT: alert.agent_id,
        _SOURCE: alert.agent_id_source if alert.agent_id else "",
        "gen_ai.agent.name": alert.agent_name,
        CONVERSATION: alert.conversation_id,
        TRACE: alert.trace_id,
        "span_id": alert.span_id,
    }
    return {name: value[:_MAX] for name, value in values.items() if value}


def agent_target(tenant: str, agent_id: str, service: str = "") -> dict[str, str]:
    """The target of a person's order, or of a similar agent: that agent, wherever it acts.

    ``agent_id`` is ``service/agent``; ``service`` is to be given where it is known, as its name may have a slash, too.
    """
    values = {"otel_ir.tenant": tenant, "service.name": service or agent_id.partition("/")[0], AGENT: agent_id, _SOURCE: "own"}
    return {name: value[:_MAX] for name, value in values.items() if value}


def is_known(target: Mapping[str, str]) -> bool:
    """Whether the agent's own name is in it, and not a provisional one."""
    return AGENT in target and target.get(_SOURCE, "none") != "none"


def selectors(target: Mapping[str, str]) -> list[dict[str, str]]:
    """Who is meant: any of these may match; of one, all keys must be equal. Empty when nothing narrower than the service is known.

    The agent, once it is known, and whoever acts in the conversation (else the trace) that was hijacked: an agent that takes
    another name in it stays contained. While the agent is not known, only that conversation or trace. By what the ledger could not
    hold as it is nobody is meant.
    """
    usable = [name for name in SELECTORS if name in target and not _CHANGED.search(target[name])]
    place = [{name: target[name]} for name in usable if name != AGENT]
    return [{AGENT: target[AGENT]}, *place[:1]] if is_known(target) and AGENT in usable else place
