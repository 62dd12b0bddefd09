"""From an alert to what is done about it: the policy decides, the responder carries it out and keeps the ledger true."""

from otel_ir.respond.caps import TokenBucket
from otel_ir.respond.contract import VERBS, About, Adapter, Finding, Outcome, Readiness, RetryConfig, Verb
from otel_ir.respond.desk import Observer
from otel_ir.respond.load import Document, suggest
from otel_ir.respond.policy import ResponseConfig, load_policy, plan, playbook, refusal, unserved, why_dry_run
from otel_ir.respond.responder import Responder
from otel_ir.respond.target import agent_target, selectors, target

__all__ = [
    "VERBS",
    "About",
    "Adapter",
    "Document",
    "Finding",
    "Observer",
    "Outcome",
    "Readiness",
    "Responder",
    "ResponseConfig",
    "RetryConfig",
    "TokenBucket",
    "Verb",
    "agent_target",
    "load_policy",
    "plan",
    "playbook",
    "refusal",
    "selectors",
    "suggest",
    "target",
    "unserved",
    "why_dry_run",
]
