"""Agents that look like one that was hijacked: held back for a limited time, never more than a few of them."""

from __future__ import annotations

from otel_ir.model import Alert
from otel_ir.model_lifecycle import ActionRequest
from otel_ir.normalize.roster import UNNAMED
from otel_ir.respond.caps import DAY
from otel_ir.respond.desk import SECOND, Desk
from otel_ir.respond.policy import steps, why_dry_run
from otel_ir.respond.target import agent_target


def look_alikes(desk: Desk, alert: Alert, incident_id: str, now: int) -> list[ActionRequest]:
    """What the policy asks for about agents with the same system prompt or the same tools as that of ``alert``."""
    config = desk.policy.similar
    if not config.by or alert.severity not in config.severity or alert.agent_id_source == "none":
        return []
    own = desk.book.agents(tenant=alert.tenant, agent_id=alert.agent_id)
    if not own:
        return []
    # What nothing names may be many agents: it is nobody's twin.
    named = [one for one in desk.book.agents(tenant=alert.tenant, since=now - DAY) if not one.agent_id.endswith(UNNAMED)]
    others = [one for one in named if one.agent_id != alert.agent_id]
    prompt = [one for one in others if "prompt" in config.by and one.fingerprint and one.fingerprint == own[0].fingerprint]
    tools = [one for one in others if "tools" in config.by and own[0].tools and set(one.tools) == set(own[0].tools)]
    why = {one.agent_id: "the same tools" for one in tools} | {one.agent_id: "the same system prompt" for one in prompt}
    service = {one.agent_id: one.service for one in others}
    found: list[ActionRequest] = []
    for agent_id in sorted(why)[: config.at_most]:
        base = ActionRequest(
            incident_id=incident_id,
            alert_id=alert.alert_id,
            verb="",
            adapter="",
            mode="dry-run" if why_dry_run(alert, desk.policy, enforce=desk.enforce) else "enforce",
            requested_at=now,
            target=agent_target(alert.tenant, agent_id, service[agent_id]),
            subject=agent_id,
            cause="similar",
            reason=f"{why[agent_id]} as {alert.agent_id}",
            expires_at=now + int(config.ttl * SECOND),
        )
        found += steps(base, desk.policy.playbooks[config.playbook], desk.policy, desk.adapters)
    return found
