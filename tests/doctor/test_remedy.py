"""What to switch on: each emitter's own words, and nothing where nothing can be switched on."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from otel_ir.doctor.blind import Blind
from otel_ir.doctor.coverage import AgentCover, Pattern
from otel_ir.doctor.remedy import agree, of_agent, together
from otel_ir.normalize.dialects import DIALECTS
from otel_ir.normalize.table import CONTENT

ARGUMENTS, RESULT = CONTENT[:2]
USER, CONVERSATION = "user.id", "gen_ai.conversation.id"
BY_NAME = {dialect.name: dialect for dialect in DIALECTS}


@pytest.mark.parametrize(("dialect", "setting", "column"), [
    ("otel_genai", "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", ARGUMENTS),
    ("openai_agents_v2", "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", ARGUMENTS),
    ("google_adk", "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", RESULT),
    ("google_adk", "ADK_CAPTURE_MESSAGE_CONTENT_IN_SPANS", ARGUMENTS),
    ("litellm", "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", ARGUMENTS),
    ("agent_framework", "ENABLE_SENSITIVE_DATA", RESULT),
    ("semantic_kernel", "SEMANTICKERNEL_EXPERIMENTAL_GENAI_ENABLE_OTEL_DIAGNOSTICS_SENSITIVE", ARGUMENTS),
    ("openinference", "OPENINFERENCE_HIDE_INPUTS", ARGUMENTS),
    ("openinference.crewai", "OPENINFERENCE_HIDE_OUTPUTS", RESULT),
    ("traceloop", "TRACELOOP_TRACE_CONTENT", ARGUMENTS),
    ("traceloop.langchain", "TRACELOOP_TRACE_CONTENT", RESULT),
    ("traceloop.crewai", "set_association_properties", CONVERSATION),
    ("langsmith", "LANGSMITH_HIDE_INPUTS", ARGUMENTS),
    ("strands", "trace_attributes", CONVERSATION),
    ("pydantic_ai", "include_content", ARGUMENTS),
    ("vercel_ai", "experimental_telemetry", ARGUMENTS),
    ("vercel_ai", "functionId", "gen_ai.agent.name"),
    ("spring_ai", "spring.ai.tools.observations.include-content", RESULT),
    ("claude_code", "OTEL_LOG_TOOL_DETAILS", ARGUMENTS),
    ("claude_code.events", "OTEL_LOG_TOOL_CONTENT", RESULT),
    ("anthropic_sdk", "ANTHROPIC_OPEN_TELEMETRY_TRACES_CONTENT_MODE", "gen_ai.input.messages"),
    ("logfire.openai_agents", "group_id", CONVERSATION),
])  # fmt: skip
def test_tables_name_the_settings_of_their_emitters(dialect: str, setting: str, column: str) -> None:
    assert [one for one in BY_NAME[dialect].remedies if setting in one.setting and column in one.gives]


def test_what_cannot_be_switched_on_is_not_promised() -> None:
    assert BY_NAME["autogen"].remedies == BY_NAME["mcp"].remedies == ()


def _cover(dialect: str, missing: set[str], **losses: int) -> AgentCover:
    pattern = Pattern("tool_call", dialect, frozenset(missing), 2, frozenset({ARGUMENTS, RESULT, USER}))
    return AgentCover("", "s", "s/a", Counter({dialect: 2}), [pattern], Counter(losses))


def test_the_emitters_own_word_for_its_masks_else_a_general_one() -> None:
    own = of_agent(_cover("logfire.openai_agents", set(), scrubbed=1), [], [], sampled=False)
    assert [(one["setting"], one["gives"]) for one in own] == [("logfire.configure(scrubbing=False)", ["true values"])]
    other = of_agent(_cover("mastra", set(), scrubbed=1), [], [], sampled=False)
    assert [one["setting"] for one in other] == ["new Observability({sensitiveDataFilter: false})"]
    assert [one["setting"] for one in of_agent(_cover("strands_", set(), scrubbed=1), [], [], sampled=False)] == [
        "(the emitter's scrubbing)",
    ]  # fmt: skip
    assert of_agent(_cover("logfire.openai_agents", {ARGUMENTS}), [], [], sampled=False) == []


def test_a_switch_that_is_on_is_not_told_to_be_switched_on() -> None:
    def settings(*missing: str) -> list[str]:
        rows = [{"what": name, "columns": [name]} for name in missing]
        return [one["setting"] for one in of_agent(_cover("otel_genai", set(missing)), rows, [], sampled=False)]

    switch = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_ONLY"
    assert settings(ARGUMENTS, RESULT)[0] == switch
    assert settings(RESULT) == [], "the arguments are there"
    assert settings(ARGUMENTS, RESULT, USER)[-1] == "span attribute user.id"


def test_only_what_a_rule_needs_or_who_it_is_is_asked_of_the_application() -> None:
    missing = [{"what": name, "columns": [name]} for name in (USER, "gen_ai.tool.call.id")]
    cover = _cover("otel_genai", {USER, "gen_ai.tool.call.id"})
    assert [one["setting"] for one in of_agent(cover, missing, [], sampled=False)] == ["span attribute user.id"]
    blind = [Blind("1", "r", "high", 2, 2, ("gen_ai.tool.call.id",))]
    found = of_agent(cover, missing, blind, sampled=False)
    assert [(one["setting"], one["unblinds"]) for one in found][1] == ("span attribute gen_ai.tool.call.id", ["r"])


def test_a_table_that_only_tells_more_of_events_names_its_settings_too() -> None:
    missing = [{"what": USER, "columns": [USER]}]
    found = of_agent(_cover("strands", {USER}), missing, [], sampled=False, beside={"adot", "litellm"})
    assert [one["dialects"] for one in found] == [["adot"], ["strands"]]


def test_settings_of_many_agents_stand_once() -> None:
    def agent(service: str, setting: str, *unblinds: str) -> dict[str, object]:
        blind = [{"signal": one, "severity": "critical"} for one in unblinds]
        remedy = {"setting": setting, "gives": ["result"], "note": "", "dialects": [], "unblinds": list(unblinds)}
        return {"service.name": service, "blind": blind, "remedies": [remedy]}

    rows = together([agent("a", "X"), agent("b", "X"), agent("b", "X"), agent("c", "Y", "rule")])
    assert [(one["setting"], one["agents"], one["services"], one["unblinds"]) for one in rows] == [
        ("Y", 1, ["c"], ["rule"]), ("X", 3, ["a", "b"], []),
    ]  # fmt: skip


CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


def _agents(*dialects: str) -> list[dict[str, Any]]:
    missing = [{"what": one, "columns": [one]} for one in (ARGUMENTS, RESULT)]
    return [{"remedies": of_agent(_cover(one, {ARGUMENTS, RESULT}), missing, [], sampled=False)} for one in dialects]


@pytest.mark.parametrize(("dialects", "present", "value"), [
    (["otel_genai"], [], "SPAN_ONLY"),
    (["otel_genai", "google_adk"], [], "SPAN_AND_EVENT"),
    (["google_adk", "otel_genai.langchain"], [], "SPAN_AND_EVENT"),
    (["otel_genai"], ["google_adk"], "SPAN_AND_EVENT"),  # to set it for the one would take from the other
])  # fmt: skip
def test_a_service_is_told_one_value_of_a_variable(dialects: list[str], present: list[str], value: str) -> None:
    agents = _agents(*dialects)
    agree(agents, [*dialects, *present])
    told = [[one["setting"] for one in agent["remedies"] if CAPTURE in one["setting"]] for agent in agents]
    assert told == [[f"{CAPTURE}={value}"]] * len(dialects)
    for agent, dialect in zip(agents, dialects, strict=True):
        [row] = [one for one in agent["remedies"] if CAPTURE in one["setting"]]
        assert row["dialects"] == [dialect]
        assert (len({*dialects, *present}) > 1) == row["note"].startswith("one value for the whole process")


def test_an_agent_that_two_dialects_tell_of_is_told_one_value() -> None:
    gone, names = frozenset({ARGUMENTS, RESULT}), ("otel_genai", "google_adk")
    cover = AgentCover("", "s", "s/a", Counter(names), [Pattern("tool_call", name, gone, 2, gone) for name in names], Counter())
    agent = {"remedies": of_agent(cover, [{"what": one, "columns": [one]} for one in (ARGUMENTS, RESULT)], [], sampled=False)}
    agree([agent], ["otel_genai", "google_adk"])
    [row] = [one for one in agent["remedies"] if CAPTURE in one["setting"]]
    assert (row["setting"], row["dialects"], row["gives"]) == (
        f"{CAPTURE}=SPAN_AND_EVENT",
        ["google_adk", "otel_genai"],
        [ARGUMENTS, RESULT],
    )


def test_a_version_is_said_of_something() -> None:
    for dialect in DIALECTS:
        for remedy in dialect.remedies:
            assert not re.match(r"(\d+\.x|\d+ )", remedy.note), f"{dialect.name}: {remedy.note}: of what?"
            assert not re.search(r"; \d+[ :]", remedy.note), f"{dialect.name}: {remedy.note}: of what?"
