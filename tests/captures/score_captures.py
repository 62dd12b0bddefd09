#!/usr/bin/env python3
# ruff: noqa
# fmt: off
"""Scores the canonical events of a normaliser against the expected facts of each capture.

usage: score_captures.py [--min PCT] [-v] EXPECTED_DIR EVENTS_DIR [STEM...]

EVENTS_DIR/<stem>.ndjson holds one JSON object per canonical event, in its final form.
Exit status: 0, or 1 with --min when the total is below PCT, or 2 for bad usage.
"""
import json
import os
import sys

INVENTABLE = ("agent", "conversation", "user")
KEYS = {"tool": "gen_ai.tool.name", "call_id": "gen_ai.tool.call.id", "agent": "gen_ai.agent.name",
        "conversation": "gen_ai.conversation.id", "user": "user.id",
        "arguments": "gen_ai.tool.call.arguments", "executed": "otel_ir.executed", "error": "error"}
DECISIONS = {"acc": "accepted", "app": "accepted", "all": "accepted", "rej": "rejected", "den": "rejected", "pen": "pending"}
COUNTERS = ("right", "wrong", "missing", "calls", "found", "lost", "extra", "invented")

def alts(x):
    return x if isinstance(x, list) else [x]

def text(v):
    return "" if v is None else v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)

def parsed(v):
    try:
        return json.loads(v) if isinstance(v, str) else v
    except ValueError:
        return v.strip()

def contains(want, got):
    got = got.replace('\\"', '"')
    return want in got or want.replace(" ", "") in got.replace(" ", "")

def plain(name):
    return str(name).rsplit("__", 1)[-1]

class Tally:
    def __init__(self, stem):
        self.stem, self.problems = stem, []
        for k in COUNTERS:
            setattr(self, k, 0)

    def add(self, what, verdict, want=None, got=None):
        setattr(self, verdict, getattr(self, verdict) + 1)
        if verdict != "right":
            self.problems.append("%s %s: want %s, got %s" % (what, verdict, text(want)[:90], text(got)[:90]))

    def field(self, what, want, got, same=lambda a, b: a == b, absent=False):
        """None is not scored; a list holds alternatives, a null among them means 'absent is fine'."""
        if want is None:
            return
        got = None if got == "" else got
        if absent or (got is None and None not in alts(want)):
            self.add(what, "missing", want)
        else:
            ok = got is None or any(a is not None and same(a, got) for a in alts(want))
            self.add(what, "right" if ok else "wrong", want, got)

    def row(self):
        total = self.right + self.wrong + self.missing
        pct = 100.0 * self.right / total if total else 100.0
        return pct, (self.stem[:40], self.right, total, "%.1f" % pct, self.wrong, self.missing) + tuple(getattr(self, k) for k in COUNTERS[3:])

def pair(wanted, events, tests):
    """Greedy one-to-one: required entries before optional ones, strict tests before loose ones."""
    got, free = {}, list(range(len(events)))
    for optional in (False, True):
        group = [w for w in range(len(wanted)) if bool(wanted[w].get("optional")) == optional]
        for test in tests:
            for w in group:
                hit = None if w in got else next((e for e in free if test(wanted[w], events[e])), None)
                if hit is not None:
                    got[w] = hit
                    free.remove(hit)
    return {w: events[e] for w, e in got.items()}, [events[e] for e in free]

def score_calls(t, exp, events):
    named = lambda w, e: plain(e.get("gen_ai.tool.name")) in [plain(a) for a in alts(w["tool"])]
    same_id = lambda w, e: named(w, e) and e.get("gen_ai.tool.call.id") not in (None, "") and e["gen_ai.tool.call.id"] in alts(w["call_id"])
    got, free = pair(exp, events, [
        lambda w, e: w["span_ids"][:1] == [e.get("span_id")],
        lambda w, e: e.get("span_id") in w["span_ids"],
        lambda w, e: same_id(w, e) and e.get("gen_ai.agent.name") in alts(w["agent"]) and e.get("gen_ai.conversation.id") in alts(w["conversation"]),
        same_id, named])
    for i, want in enumerate(exp):
        if want.get("optional"):
            continue
        e, absent, where = got.get(i, {}), i not in got, "call %d %s" % (i, alts(want["tool"])[0])
        t.calls, t.found, t.lost = t.calls + 1, t.found + (not absent), t.lost + absent
        for key, name in KEYS.items():
            value = e.get(name)
            if want[key] is None and key in INVENTABLE and value not in (None, ""):
                t.invented += 1
                t.add(where + " " + key + " (invented)", "wrong", None, value)
            same = (lambda a, b: parsed(a) == parsed(b)) if key == "arguments" else (lambda a, b: a == b)
            t.field(where + " " + key, want[key], value, same, absent)
        message = (text(e.get("error.message")) + " " + text(e.get("error.type"))).strip()
        t.field(where + " result", want["result_contains"], text(e.get("gen_ai.tool.call.result")), contains, absent)
        t.field(where + " error text", want["error_contains"], message, contains, absent)
    for e in free:
        t.extra += 1
        t.add("extra call", "wrong", None, "%s span %s" % (e.get("gen_ai.tool.name"), e.get("span_id")))

def score_list(t, what, exp, events, fields):
    ok = lambda w, e, k: fields[k](e) in alts(w[k])
    tests = [lambda w, e: all(ok(w, e, k) for k in fields)]
    tests += [lambda w, e, k=k: ok(w, e, k) for k in fields] + [lambda w, e: True]
    got, free = pair(exp, events, tests)
    for i, want in enumerate(exp):
        for key, read in ({} if want.get("optional") else fields).items():
            t.field("%s %d %s" % (what, i, key), want[key], read(got.get(i, {})), absent=i not in got)
    for e in free:
        t.add("extra " + what, "wrong", None, {k: read(e) for k, read in fields.items()})

def decision(e):
    d = str(e.get("otel_ir.approval.decision") or "").lower()
    return DECISIONS.get(d[:3], d) or None

def score_rest(t, exp, events, absent):
    of_type = lambda kind: [e for e in events if e.get("event.type") == kind]
    score_list(t, "handoff", exp["handoffs"], of_type("handoff"),
               {"to": lambda e: e.get("otel_ir.handoff.to"), "from": lambda e: e.get("otel_ir.handoff.from")})
    score_list(t, "guardrail", exp["guardrails"], of_type("guardrail"), {"triggered": lambda e: e.get("otel_ir.guardrail.triggered")})
    score_list(t, "approval", exp["approvals"], of_type("approval"),
               {"tool": lambda e: plain(e.get("gen_ai.tool.name") or "") or None, "decision": decision})
    hits = len(of_type("retrieval"))
    if hits or exp["retrievals"]:
        t.field("retrievals", exp["retrievals"], hits, absent=absent)
    names = {e.get("gen_ai.agent.name") for e in events} - {None, ""}
    for want in exp["agents"]:
        t.field("agent", want, next((a for a in alts(want) if a in names), None), absent=absent)
    known = {a for want in exp["agents"] for a in alts(want)} | set(exp.get("agents_also_ok", []))
    for name in sorted(names - known):
        t.add("unknown agent", "wrong", None, name)
    llm, want = of_type("model_output"), exp["model_calls"]
    t.field("model_calls count", want["count"], len(llm), absent=absent)
    for key in ("input_tokens", "output_tokens"):
        values = [e["gen_ai.usage." + key] for e in llm if e.get("gen_ai.usage." + key) is not None]
        t.field("model_calls " + key, want[key], sum(int(v) for v in values) if values else None, absent=absent)
    models = {e.get("gen_ai." + side + ".model") for e in llm for side in ("request", "response")}
    for m in want["models"]:
        t.field("model", m, next((a for a in alts(m) if a in models), None), absent=absent)

def score(stem, exp, path):
    t, events, absent = Tally(stem), [], not os.path.exists(path)
    if absent:
        t.problems.append("no event file")
    else:
        with open(path, encoding="utf-8") as f:
            events = [json.loads(line) for line in f if line.strip()]
    primary = [e for e in events if e.get("otel_ir.duplicate_of") is None]
    score_calls(t, exp["tool_calls"], [e for e in primary if e.get("event.type") == "tool_call"])
    score_rest(t, exp, primary, absent)
    return t

def main(argv):
    floor = None
    if "--min" in argv:
        at = argv.index("--min")
        floor, argv = float(argv[at + 1]), argv[:at] + argv[at + 2:]
    args = [a for a in argv if a != "-v"]
    if len(args) < 2:
        print(__doc__)
        return 2
    stems = args[2:] or sorted(f[:-5] for f in os.listdir(args[0]) if f.endswith(".json"))
    line = "%-40s" + " %6s" * 10
    print(line % ("capture", "right", "of", "%", "wrong", "miss", "calls", "found", "lost", "extra", "invent"))
    sums = Tally("TOTAL")
    for stem in stems:
        with open(os.path.join(args[0], stem + ".json"), encoding="utf-8") as f:
            t = score(stem, json.load(f), os.path.join(args[1], stem + ".ndjson"))
        for k in COUNTERS:
            setattr(sums, k, getattr(sums, k) + getattr(t, k))
        print(line % t.row()[1])
        for p in t.problems if "-v" in argv else []:
            print("    " + p)
    pct, row = sums.row()
    print(line % row)
    return 1 if floor is not None and pct < floor else 0

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
