"""The smallest Function in Python: it answers every request with one line of text. Standard library only.

It keeps to the container contract: it listens on $PORT, and at SIGTERM it finishes what it has begun and exits.
"""

import contextlib
import os
import signal
import socket
import socketserver
import threading
from http.server import BaseHTTPRequestHandler

REVISION = os.environ.get("K_REVISION", "my machine")
GRACE_SECONDS = 25  # less than the 30 after which Kubernetes sends SIGKILL by default


class Hello(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections open between requests
    timeout = 60  # seconds that an idle connection stays

    def answer(self):
        with self.server.request_in_flight():
            self.hello()

    def hello(self):
        self.discard_body()
        body = f"Hello from Python! ({REVISION})\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def discard_body(self):
        """Reads the request's body, or the next request on the connection would begin inside it."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            self.close_connection = True  # http.server cannot read chunks
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left > 0 and (chunk := self.rfile.read(min(left, 65536))):
            left -= len(chunk)

    def log_message(self, format, *args):
        """Says nothing for each request: the platform counts them already."""


class Server(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    allow_reuse_address = True
    request_queue_size = 1024  # a burst after a cold start must not overflow the accept queue
    daemon_threads = True  # an idle connection must not keep the process alive

    def __init__(self, *args):
        self.in_flight = 0
        self.changed = threading.Condition()
        super().__init__(*args)

    def server_bind(self):
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    @contextlib.contextmanager
    def request_in_flight(self):
        with self.changed:
            self.in_flight += 1
        try:
            yield
        finally:
            with self.changed:
                self.in_flight -= 1
                self.changed.notify_all()

    def drain(self):
        """Waits until no request is in flight, or the grace is over."""
        with self.changed:
            self.changed.wait_for(lambda: self.in_flight == 0, GRACE_SECONDS)

    def handle_error(self, request, client_address):
        """Says nothing when a client breaks its connection off."""


def main():
    port = int(os.environ.get("PORT", "8080"))
    server = Server(("", port), Hello)
    # shutdown() waits for serve_forever() to return, and the signal arrives in the very thread that runs it.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"listening on port {port}", flush=True)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    server.drain()


if __name__ == "__main__":
    main()
