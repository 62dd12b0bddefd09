"""OpenAI Agents SDK with OpenInference's instrumentation; the model answers OpenAI's Responses API on loopback."""

from __future__ import annotations

from agents import Agent, Runner, function_tool, set_default_openai_client
from openai import AsyncOpenAI
from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor
from scenario import AGENT, INSTRUCTIONS, PROMPT, finish, lookup_customer, send_email, tracer_provider
from scripted_openai import MODEL, scripted_openai

provider = tracer_provider()
OpenAIAgentsInstrumentor().instrument(tracer_provider=provider)
with scripted_openai() as url:
    set_default_openai_client(AsyncOpenAI(base_url=url, api_key="none"), use_for_tracing=False)
    tools = [function_tool(lookup_customer), function_tool(send_email)]
    result = Runner.run_sync(Agent(name=AGENT, instructions=INSTRUCTIONS, model=MODEL, tools=tools), PROMPT)
finish(provider, result.final_output)
