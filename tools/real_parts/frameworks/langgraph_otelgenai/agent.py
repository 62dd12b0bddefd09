"""LangGraph with the official OpenTelemetry GenAI instrumentation; the model answers OpenAI's chat API on loopback."""

from __future__ import annotations

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from opentelemetry.instrumentation.genai.langchain import LangChainInstrumentor
from scenario import AGENT, CONVERSATION, INSTRUCTIONS, PROMPT, finish, lookup_customer, send_email, tracer_provider
from scripted_openai import MODEL, scripted_openai

provider = tracer_provider()
LangChainInstrumentor().instrument(tracer_provider=provider)
with scripted_openai() as url:
    model = ChatOpenAI(model=MODEL, base_url=url, api_key="none")
    agent = create_agent(model, [lookup_customer, send_email], system_prompt=INSTRUCTIONS, name=AGENT)
    config = {"configurable": {"thread_id": CONVERSATION}, "metadata": {"session_id": CONVERSATION}}
    result = agent.invoke({"messages": [{"role": "user", "content": PROMPT}]}, config=config)
finish(provider, result["messages"][-1].content)
