"""From an alert to what is done about it: the policy decides, the responder carries it out and keeps the ledger true."""

from otel_ir.respond.contract import VERBS, About, ActionLedger, Adapter, Outcome, RetryConfig, Verb
from otel_ir.respond.load import Document, suggest
from otel_ir.respond.policy import ResponseConfig, load_policy, plan, playbook, refusal, target, unserved, why_dry_run
from otel_ir.respond.responder import Observer, Responder, TokenBucket

__all__ = [
    "VERBS",
    "About",
    "ActionLedger",
    "Adapter",
    "Document",
    "Observer",
    "Outcome",
    "Responder",
    "ResponseConfig",
    "RetryConfig",
    "TokenBucket",
    "Verb",
    "load_policy",
    "plan",
    "playbook",
    "refusal",
    "suggest",
    "target",
    "unserved",
    "why_dry_run",
]
