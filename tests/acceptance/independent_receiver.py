"""A receiver that shares no code with notifier: answers by the path as the samples' merchants would, logs on stdout.

Run as a process of its own, so that a busy test suite does not delay what it writes down. First line: its port. Then
one JSON line per request: webhook-id, attempt, the moment in Unix milliseconds, and why a signature is wrong, if it is.
"""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import standardwebhooks


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        moment = time.time() * 1000
        body = self.rfile.read(int(self.headers["content-length"]))
        fault = None
        try:
            standardwebhooks.Webhook(sys.argv[1]).verify(
                body, {name.lower(): value for name, value in self.headers.items()}
            )
        except standardwebhooks.WebhookVerificationError as error:
            fault = str(error)
        attempt = int(self.headers["notifier-attempt"])
        line = {"id": self.headers["webhook-id"], "attempt": attempt, "moment": moment, "fault": fault}
        print(json.dumps(line) + "\n", end="", flush=True)  # in one piece: each connection has a thread
        good = self.path == "/prompt" or (self.path == "/flaky" and attempt == 3)
        self.send_response(200 if good else 500)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Nothing on stderr."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    print(server.server_port, flush=True)
    server.serve_forever()
