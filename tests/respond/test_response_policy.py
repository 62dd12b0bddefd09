"""From an alert to a plan, and every fault of a response.yaml with its place."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ir.contain import build_adapters
from otel_ir.errors import ConfigError
from otel_ir.model import SEVERITIES, STAGES, Alert
from otel_ir.respond import Document, ResponseConfig, load_policy, plan, playbook, refusal, target, unserved, why_dry_run
from otel_ir.respond.contract import VERBS, Verb

FOUR = ("revoke_tools", "isolate_network", "pause_agent", "rotate_credentials")
ANY = SimpleNamespace(verbs=tuple(VERBS), about=SimpleNamespace(reversible=True, last=False))


def alert(**changes: Any) -> Alert:
    values: dict[str, Any] = {
        "alert_id": "a" * 32,
        "rule_id": "rule-1",
        "signal": "data_exfiltration",
        "ruleset": "f" * 64,
        "severity": "critical",
        "stage": "compromise",
        "title": "t",
        "description": "d",
        "tags": ("owasp.asi02", "atlas.aml.t0086"),
        "sender": "collector",
        "service": "helpdesk",
        "agent_id": "helpdesk/triage",
        "agent_id_source": "own",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "span_id": "b7ad6b7169203331",
    }
    return Alert(**(values | changes))


def policy(tmp_path: Path, text: str = "") -> ResponseConfig:
    path = tmp_path / "response.yaml"
    path.write_text(text)
    return load_policy(path)[0]


def test_the_shipped_policy_is_the_articles() -> None:
    config, _ = load_policy()
    expected = {"critical": FOUR, "high": FOUR, "medium": ("read_only_tools",), "low": ()}
    assert {severity: playbook(alert(severity=severity), config) for severity in SEVERITIES} == expected
    assert config.mode == "dry-run"
    assert config.safety.require_sender
    assert not config.adapters


def test_every_verb_of_the_type_is_described() -> None:
    assert tuple(VERBS) == Verb.__args__  # type: ignore[attr-defined]


def test_the_first_match_decides_and_a_rule_may_ask_for_its_own(tmp_path: Path) -> None:
    config = policy(
        tmp_path,
        """\
playbooks: {a: [pause_agent], b: [revoke_tools], c: [rotate_credentials], d: [isolate_network], none: []}
policy:
  - {when: {rule: [loud_*, rule-7]}, playbook: none}
  - {when: {tag: "atlas.*", stage: [compromise, attempt]}, playbook: a}
  - {when: {service: "billing-*", severity: low}, playbook: b}
  - {when: {}, playbook: c}
""",
    )
    assert playbook(alert(signal="loud_rule"), config) == ()
    assert playbook(alert(rule_id="rule-7"), config) == ()
    assert playbook(alert(), config) == ("pause_agent",)
    assert playbook(alert(stage="anomaly"), config) == ("rotate_credentials",)
    assert playbook(alert(tags=(), service="billing-eu", severity="low"), config) == ("revoke_tools",)
    assert playbook(alert(response="d"), config) == ("isolate_network",)
    assert playbook(alert(response="unheard of"), config) == ("pause_agent",)


def test_a_plan_is_every_verb_by_every_adapter_that_can(tmp_path: Path) -> None:
    adapters = {"soc": ANY, "net": SimpleNamespace(verbs=("isolate_network",), about=ANY.about)}
    config, _ = load_policy()
    requests = plan(alert(), config, adapters, incident_id="INC-1", now=7)
    assert [(r.verb, r.adapter) for r in requests] == [
        ("revoke_tools", "soc"),
        ("isolate_network", "soc"),
        ("isolate_network", "net"),
        ("pause_agent", "soc"),
        ("rotate_credentials", "soc"),
    ]
    assert {(r.mode, r.requested_at, r.alert_id) for r in requests} == {("dry-run", 7, "a" * 32)}
    assert len({r.action_id for r in requests}) == 5
    assert unserved(alert(), config, {"net": adapters["net"]}) == ["revoke_tools", "pause_agent", "rotate_credentials"]
    assert plan(alert(), config, {}, incident_id="INC-1") == []


@pytest.mark.parametrize(
    ("mode", "enforce", "sender", "require", "blocked_by"),
    [
        ("enforce", True, "collector", "true", ""),
        ("enforce", True, "", "false", ""),
        ("dry-run", True, "collector", "true", "response.yaml"),
        ("enforce", False, "collector", "true", "--enforce"),
        ("dry-run", False, "collector", "false", "response.yaml"),
        ("enforce", True, "", "true", "nobody vouches"),
    ],
)
def test_two_switches_and_a_sender_that_is_known(
    tmp_path: Path, mode: str, *, enforce: bool, sender: str, require: str, blocked_by: str
) -> None:
    config = policy(tmp_path, f"mode: {mode}\nsafety: {{require_sender: {require}}}\n")
    why = why_dry_run(alert(sender=sender), config, enforce=enforce)
    assert bool(why) == bool(blocked_by)
    assert blocked_by in why
    requests = plan(alert(sender=sender), config, {"soc": ANY}, incident_id="INC-1", enforce=enforce)
    assert {r.mode for r in requests} == {"dry-run" if blocked_by else "enforce"}


@given(st.sampled_from(SEVERITIES), st.sampled_from(STAGES), st.booleans())
def test_nothing_is_enforced_without_both_switches(severity: str, stage: str, enforce: bool) -> None:
    config, _ = load_policy()
    assert all(
        r.mode == "dry-run" for r in plan(alert(severity=severity, stage=stage), config, {"x": ANY}, incident_id="INC-1", enforce=enforce)
    )


@pytest.mark.parametrize(
    ("patterns", "changes", "refused"),
    [
        ("[]", {}, ""),
        ('["helpdesk/triage"]', {}, "is protected"),
        ('["helpdesk/*"]', {}, "is protected"),
        ("[helpdesk]", {}, "is protected"),
        ('["*/triage"]', {}, "is protected"),
        ('["helpdesk/other"]', {}, ""),
        ('["helpdesk/other"]', {"agent_id_source": "none", "agent_id": "helpdesk/0af7"}, "not known yet"),
        ('["billing/other"]', {"agent_id_source": "none", "agent_id": "helpdesk/0af7"}, ""),
        ("[]", {"agent_id": "", "trace_id": "", "agent_id_source": "none"}, "narrower than the whole service"),
        ("[]", {"agent_id": "", "agent_id_source": "none"}, ""),
    ],
)
def test_who_is_left_alone(tmp_path: Path, patterns: str, changes: dict[str, Any], refused: str) -> None:
    reason = refusal(target(alert(**changes)), policy(tmp_path, f"safety: {{protected: {patterns}}}\n"))
    assert bool(reason) == bool(refused)
    assert refused in reason


def test_the_target_is_what_is_known_and_bounded() -> None:
    selector = target(alert(conversation_id="c" * 5000, group=(("service.instance.id", "pod-3"),), agent_name=None))
    assert selector["service.instance.id"] == "pod-3"
    assert len(selector["gen_ai.conversation.id"]) == 1024
    assert "gen_ai.agent.name" not in selector
    assert "otel_ir.tenant" not in selector


FAULTS = {
    "mode: enforced": "1: mode: invalid enum value 'enforced'",
    "mod: enforce": "1: mod: unknown key: did you mean 'mode'?",
    "safety:\n  protectd: [x]": "2: safety.protectd: unknown key: did you mean 'protected'?",
    "safety:\n  actions_per_minute: 0": "1: safety: actions_per_minute and retry_for must be above 0",
    "safety:\n  retry_for: long": "2: safety.retry_for: expected `float`, got `str`",
    "playbooks:\n  ok: [pause_agent]\n  contain:\n    - pause\npolicy: []": "4: playbooks.contain.0: invalid enum value 'pause'",
    "policy:\n  - when: {severity: high}\n    playbook: contian": "3: policy.0.playbook: no playbook 'contian': did you mean 'contain'?",
    "policy:\n  - when: {sevrity: high}\n    playbook: contain": "2: policy.0.when.sevrity: unknown key: did you mean 'severity'?",
    "policy:\n  - playbook: contain": "2: policy.0: object missing required field `when`",
    "policy:\n  - when: {severity: [high, worst]}\n    playbook: contain": "2: policy.0.when.severity.1: invalid enum value 'worst'",
    "mode: enforce\nmode: dry-run": "2: mode: given twice: first in line 1",
    "mode: [": "1: expected the node content",
    "- a": "1: a mapping of keys to values is expected",
    "x: !!python/object/apply:os.system [id]": "1: the tag 'tag:yaml.org,2002:python/object/apply:os.system' has no meaning here",
    "x: !!python/name:os.system": "1: '' is not a value of this kind",
    "? [a]\n: b": "1: keys are plain words here",
}


@pytest.mark.parametrize("text", FAULTS)
def test_faults_have_file_line_and_hint(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        policy(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'response.yaml'}:{FAULTS[text]}"), message


def test_all_unknown_keys_are_named_in_one_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        policy(tmp_path, "mod: x\nsafety:\n  a: 1\n  b: 2\nplaybook: {}\n")
    assert [line.split(":")[1] for line in str(caught.value).splitlines()] == ["1", "3", "4", "5"]


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_policy(tmp_path / "none.yaml")
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_policy(tmp_path / "x.yaml")


def test_aliases_cannot_grow_without_end() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 10)}]\n" for n in range(8)
    )
    with pytest.raises(ConfigError, match="more than"):
        Document(bomb, "bomb.yaml")
    with pytest.raises(ConfigError, match="larger than"):
        Document("#" * 2_000_000, "big.yaml")


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    with contextlib.suppress(ConfigError):
        Document(text, "any.yaml").convert(ResponseConfig)


ADAPTER_FAULTS = {
    "soc: {url: https://h/x}": "2: adapters.soc.type: type is missing: one of guard, process, webhook",
    "soc: {type: webhok, url: https://h/x}": "2: adapters.soc.type: no adapter of type 'webhok': did you mean 'webhook'?",
    "soc:\n    type: webhook\n    url: https://h/x\n    secret-env: X": "5: adapters.soc.secret-env: unknown key: did you mean",
    "soc: {type: webhook, secret_env: S}": "2: adapters.soc: object missing required field `url`",
    "soc:\n    type: webhook\n    url: http://h/x\n    secret_env: S": "2: adapters.soc: url: must be https",
    "soc: {type: webhook, url: https://h/x, secret_env: NOT_SET}": "2: adapters.soc: secret_env NOT_SET: is empty",
    "soc: {type: webhook, url: https://h/x, secret_env: S, verbs: [stop]}": "2: adapters.soc.verbs.0: invalid enum value 'stop'",
    "soc: {type: webhook, url: https://h/x, secret_env: S, retry: {attempts: 0}}": "2: adapters.soc.retry: retry: attempts",
}


@pytest.mark.parametrize("section", ADAPTER_FAULTS)
def test_faults_of_adapters(tmp_path: Path, section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S", "whsec_" + "c2VjcmV0" * 5)
    path = tmp_path / "response.yaml"
    path.write_text(f"adapters:\n  {section}\n")
    with pytest.raises(ConfigError) as caught:
        build_adapters(*load_policy(path))
    assert str(caught.value).startswith(f"{path}:{ADAPTER_FAULTS[section]}"), caught.value


def test_adapters_keep_their_order_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S", "whsec_" + "c2VjcmV0" * 5)
    section = "{type: webhook, url: https://h/x, secret_env: S}"
    path = tmp_path / "response.yaml"
    path.write_text(f"adapters:\n  two: {section}\n  one: {section}\n")
    adapters = build_adapters(*load_policy(path))
    assert list(adapters) == ["two", "one"]
    assert adapters["one"].verbs == FOUR
