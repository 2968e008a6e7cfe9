"""An app whose answers last: /wait?seconds=N, /events (Server-Sent Events without end), and a WebSocket that echoes.

At SIGTERM it takes no new connection, and ends when the last answer has.
"""

import base64
import hashlib
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CLOSE = 0x88


class Patient(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urlsplit(self.path)
        if self.headers.get("Upgrade") == "websocket":
            return self.echo()
        if url.path == "/events":
            return self.events()
        if url.path == "/wait":
            time.sleep(float(parse_qs(url.query)["seconds"][0]))
        body = b"answered"
        self.begin(200, [("Content-Length", str(len(body))), ("Connection", "close")])
        self.wfile.write(body)

    def begin(self, status, headers):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()

    def events(self):
        self.begin(200, [("Content-Type", "text/event-stream"), ("Connection", "close")])
        number = 0
        while True:
            number += 1
            try:
                self.wfile.write(f"id: {number}\ndata: tick\n\n".encode())
            except OSError:
                return  # the client has gone
            time.sleep(0.1)

    def echo(self):
        """Short text messages of RFC 6455, until the close frame, which is answered by one."""
        proof = hashlib.sha1((self.headers["Sec-WebSocket-Key"] + GUID).encode()).digest()
        accept = base64.b64encode(proof).decode()
        self.begin(101, [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)])
        self.close_connection = True
        while head := self.rfile.read(6):
            kind, length, mask = head[0], head[1] & 0x7F, head[2:]
            text = bytes(byte ^ mask[at % 4] for at, byte in enumerate(self.rfile.read(length)))
            self.wfile.write(bytes([kind, length]) + text)
            if kind == CLOSE:
                return

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for every answer
    request_queue_size = 128


server = Server(("", int(os.environ["PORT"])), Patient)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever(poll_interval=0.05)
server.server_close()
