"""What people ask for, taken from the ledger: contain an agent, let go of it, close an incident."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from otel_ir.errors import StorageError
from otel_ir.model import Alert
from otel_ir.model_lifecycle import IN_FORCE, UNFINISHED, ActionRequest, ActionState, LetGo, LogEntry, Order
from otel_ir.respond.contract import VERBS
from otel_ir.respond.desk import Desk
from otel_ir.respond.policy import refusal, steps
from otel_ir.respond.target import agent_target

_log = logging.getLogger(__name__)

Decide = Callable[[ActionRequest, Alert | None], None]


def take_orders(desk: Desk, gate: threading.Lock, decide: Decide, preflight: Callable[[Order], None]) -> None:
    """Carry out the orders that wait. Each is answered when all it asks for is durable; a crash in between repeats nothing.

    ``preflight`` takes an order to look at the adapters, and answers it when it is done.
    """
    for order in desk.book.waiting_orders():
        if order.kind == "preflight":
            preflight(order)
            continue
        try:
            kind = {"contain": _contain, "release": _release, "close": _close}[order.kind]
        except KeyError:
            desk.book.answer(order.order_id, desk.clock(), f"{order.kind!r} is nothing that can be asked for", ok=False)
            continue
        with gate:
            try:
                incident_id, answer, ok = kind(desk, order, decide)
            except StorageError:
                raise
            except Exception as error:  # one order that goes wrong must not hold up the others, nor what is kept after them
                _log.exception("order %s could not be carried out", order.order_id)
                incident_id, answer, ok = "", f"could not be carried out: {type(error).__name__}", False
            desk.book.answer(order.order_id, desk.clock(), answer, ok=ok, incident_id=incident_id)


def _contain(desk: Desk, order: Order, decide: Decide) -> tuple[str, str, bool]:
    verbs = order.verbs or desk.policy.playbooks.get("contain", ())
    unknown = [verb for verb in verbs if verb not in VERBS]
    seen = desk.book.agents(tenant=order.tenant, agent_id=order.agent_id)
    agent = agent_target(order.tenant, order.agent_id, seen[0].service if seen else "")
    if "/~" in order.agent_id:
        return (
            "",
            f"{order.agent_id!r} is a provisional name: give that of the agent (otel-ir alerts), or let the alert's own actions hold it",
            False,
        )
    if unknown or "/" not in order.agent_id:
        return "", f"no such step: {', '.join(unknown)}" if unknown else f"{order.agent_id!r} is not service/agent", False
    if reason := refusal(agent, desk.policy):
        return "", f"refused: {reason}", False
    now = desk.clock()
    entry = LogEntry(order.at, "contain", order.who, order.reason)
    incident_id = desk.book.open_incident(order.tenant, agent["service.name"], order.agent_id, entry)
    base = ActionRequest(
        incident_id=incident_id, verb="", adapter="", mode="enforce" if desk.enforcing else "dry-run", requested_at=now,
        target=agent, cause="person", reason=f"{order.reason or 'no reason given'} ({order.who})",
    )  # fmt: skip
    drafts = steps(base, verbs, desk.policy, desk.adapters)
    for request in desk.book.request_actions(drafts, now):
        desk.tell(request, ActionState.REQUESTED, now, "")
        decide(request, None)
    if not drafts:
        return incident_id, f"no adapter can do {', '.join(verbs)}: see docs/response.md", False
    left = [verb for verb in verbs if verb not in {draft.verb for draft in drafts}]
    note = f"; nobody can do {', '.join(left)}" if left else ""
    mode = "" if desk.enforcing else " as a dry run: otel_ir is not enforcing"
    return incident_id, f"{len(drafts)} actions asked for{mode}{note}", True


def _release(desk: Desk, order: Order, _decide: Decide) -> tuple[str, str, bool]:
    # What may hold comes first: it must be found behind however many that failed.
    rows = [
        *desk.book.actions(incident_id=order.incident_id, states=(*IN_FORCE, *UNFINISHED), limit=10_000),
        *desk.book.actions(incident_id=order.incident_id, states=[ActionState.FAILED], limit=1000),
    ]
    wanted = [row for row in rows if not order.verbs or row.action_id in order.verbs or row.verb in order.verbs]
    now = desk.clock()
    decision = LetGo(ActionState.RELEASED, order.who, order.reason, now)
    let_go = [row for row in wanted if desk.book.let_go(row.action_id, decision)]
    for row in let_go:
        # A request that was never sent is released at once; the others go on from `releasing`.
        over = row.state is ActionState.REQUESTED
        desk.tell(row.request, ActionState.RELEASED if over else ActionState.RELEASING, now, order.reason)
    if not rows and not desk.book.actions(incident_id=order.incident_id, limit=1):
        return "", f"no actions of {order.incident_id!r}: otel-ir incidents lists what there is", False
    desk.book.note(order.incident_id, LogEntry(now, "release", order.who, order.reason))
    return order.incident_id, f"{len(let_go)} actions are being let go of" if let_go else "nothing was in force", True


def _close(desk: Desk, order: Order, _decide: Decide) -> tuple[str, str, bool]:
    if desk.book.close_incident(order.incident_id, LogEntry(desk.clock(), "closed", order.who, order.reason)):
        return order.incident_id, "closed", True
    return order.incident_id, "not closed: something is in force (otel-ir release), or there is no such open incident", False
