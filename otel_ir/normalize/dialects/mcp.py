"""The MCP Python SDK (2.x): the server's ``tools/call`` span; the client's span names the tool in its name only, and is structure.

Neither has arguments, results or a session; a tool's failure is ``error.type=tool_error`` on the server's span.
"""

from __future__ import annotations

from otel_ir.normalize.dialects.otel_genai import DIALECT as GENAI
from otel_ir.normalize.table import ANYWHERE

DIALECT = GENAI.but(
    name="mcp",
    about="MCP Python SDK 2.x and the MCP conventions (1.39): tool calls as the server saw them, without content.",
    scopes=("mcp-python-sdk", "mcp.*"),
    markers=("mcp.method.name",),
    classify=(
        ("tool_call", "mcp.method.name=tools/call", "gen_ai.tool.name"),
        ("detail", "mcp.method.name=tools/call"),
        *GENAI.classify,
    ),
    call=(f"={ANYWHERE}",),
    inside=True,
    remedies=(),  # nothing of the SDK gives more: the agent's side of the call has it
)
