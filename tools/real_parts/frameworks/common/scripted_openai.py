"""A model behind OpenAI's API on loopback: it plays ``scenario.SCRIPT``, or another script. Frameworks reach it through the real client."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from scenario import ANSWER, SCRIPT, Call

MODEL = "gpt-4o-mini"

Script = Callable[[dict[str, Any], int], Call | None]
"""What the model asks for, by the request and the number of answers of tools that it has got; ``None``: it says ``ANSWER``."""


def _scenario(_request: dict[str, Any], turn: int) -> Call | None:
    return SCRIPT[turn] if turn < len(SCRIPT) else None


def _chat_completion(request: dict[str, Any], script: Script) -> dict[str, Any]:
    turn = sum(message["role"] == "tool" for message in request["messages"])
    message: dict[str, Any] = {"role": "assistant", "content": ANSWER}
    if call := script(request, turn):
        function = {"name": call.tool, "arguments": json.dumps(call.arguments)}
        message = {"role": "assistant", "content": None, "tool_calls": [{"id": call.id, "type": "function", "function": function}]}
    reason = "tool_calls" if "tool_calls" in message else "stop"
    return {
        "id": f"chatcmpl-{turn}", "object": "chat.completion", "created": 1, "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": 50, "completion_tokens": 10, "total_tokens": 60},
    }  # fmt: skip


def _response(request: dict[str, Any], script: Script) -> dict[str, Any]:
    turn = sum(isinstance(item, dict) and item.get("type") == "function_call_output" for item in request["input"])
    output: dict[str, Any] = {
        "id": f"msg_{turn}", "type": "message", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": ANSWER, "annotations": []}],
    }  # fmt: skip
    if call := script(request, turn):
        output = {
            "id": f"fc_{turn}", "type": "function_call", "status": "completed",
            "call_id": call.id, "name": call.tool, "arguments": json.dumps(call.arguments),
        }  # fmt: skip
    usage = {
        "input_tokens": 50, "output_tokens": 10, "total_tokens": 60,
        "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0},
    }  # fmt: skip
    return {
        "id": f"resp_{turn}", "object": "response", "created_at": 1, "status": "completed", "model": MODEL, "output": [output],
        "parallel_tool_calls": False, "tool_choice": "auto", "tools": request.get("tools", []), "usage": usage,
    }  # fmt: skip


_ANSWERS = {"/v1/chat/completions": _chat_completion, "/v1/responses": _response}


class _Handler(BaseHTTPRequestHandler):
    script: Script

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = _ANSWERS.get(self.path)
        body = json.dumps(answer(request, type(self).script) if answer else {"error": {"message": f"no {self.path} here"}}).encode()
        self.send_response(200 if answer else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def scripted_openai(script: Script = _scenario) -> Iterator[str]:
    """Serves on an ephemeral loopback port; gives the base URL for the client. ``script`` is called in a thread of each request."""
    handler = type("Handler", (_Handler,), {"script": staticmethod(script)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
