"""A server of OpenAI's protocol whose address says how it misbehaves; prints its port, and serves.

Run as ``python misbehaving_server.py``; ask it at ``http://127.0.0.1:PORT/MANNER/v1``.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SEEN: Counter[str] = Counter()

BODIES = {
    "html": "<html>It works!</html>",
    "empty": "",
    "null": "null",
    "list": "[]",
    "no_choices": '{"choices": []}',
    "no_message": '{"choices": [{}]}',
    "content_number": '{"choices": [{"message": {"content": 7}}]}',
    "calls_text": '{"choices": [{"message": {"tool_calls": "run"}}]}',
    "usage_text": '{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": "n"}}',
    "deep": "[" * 200_000,
    "huge": json.dumps({"choices": [{"message": {"content": "x" * 100_000}}]}),
}
STATUSES = {"bad_request": 400, "no_key": 401, "no_model": 404, "overloaded": 503}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        manner = self.path.split("/")[1]
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        SEEN[manner] += 1
        if manner == "hang":
            time.sleep(600)
        elif manner == "trickle":
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            for _ in range(10_000):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.02)
        elif manner == "drop":
            self.connection.close()
        elif manner in STATUSES:
            self.answer(STATUSES[manner], json.dumps({"error": f"a {manner} error"}))
        elif manner in BODIES:
            self.answer(200, BODIES[manner])
        elif manner == "flaky" and SEEN[manner] % 3:
            self.answer(500, "not now")
        elif manner == "bad_call":
            function = {"name": "run_tests", "arguments": '{"a": '}
            self.reply({"message": {"content": None, "tool_calls": [{"function": function}]}})
        elif self.path.endswith("/chat/completions"):
            last = request["messages"][-1]["content"]
            said = f"You said {last}" if manner != "echo" else json.dumps(request)
            self.reply({"message": {"content": said}, "finish_reason": "stop"})
        else:
            if manner == "slow":
                time.sleep(0.3)
            self.reply({"text": request["prompt"][::-1], "finish_reason": "stop"})

    def reply(self, choice: dict[str, object]) -> None:
        usage = {"prompt_tokens": 12, "completion_tokens": 3}
        self.answer(200, json.dumps({"choices": [choice], "usage": usage}))

    def answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that give up are what this is for."""


if __name__ == "__main__":
    server = Server(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()
