"""An app that tells what it finds in its container, which requests reach it, and what it does when it is told to end.

/                  JSON: the environment, user and groups, standard input, what it may write.
/request           JSON: the request as it arrived, any method.
/seen              JSON: [path, User-Agent] of every request so far.
/wait?seconds=N    one answer, after N seconds.
/drip?seconds=N    the head at once, then a byte every 100 ms for N seconds.
/life              Server-Sent Events: `begun`, `SIGTERM` when that comes, then `end` once it ends by itself.
/started /ready /health   its probes. /unready, /ready-again and /unhealthy change what they say.

START_SECONDS: /started answers 503 so long, and so does everything else but probes: nobody should ask before.
END_SECONDS: after SIGTERM it ends so much later. IGNORE_SIGTERM: it does not end, and /life tells how long ago SIGTERM was.
"""

import json
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

BEGAN = time.monotonic()
START_SECONDS = float(os.environ.get("START_SECONDS", "0"))
END_SECONDS = float(os.environ.get("END_SECONDS", "0"))
TICK = 0.1
STDIN = os.read(0, 1)  # blocks for ever where standard input is open but silent

terminated = threading.Event()
terminated_at = None
ready = threading.Event()
ready.set()
healthy = threading.Event()
healthy.set()
seen = []


def started():
    return time.monotonic() - BEGAN >= START_SECONDS


def may_write(folder):
    try:
        path = os.path.join(folder, "written-by-the-app")
        with open(path, "w") as file:
            file.write("x")
        os.unlink(path)
        return True
    except OSError:
        return False


def exists(path):
    return os.path.exists(path)


def status_of_process():
    with open("/proc/self/status") as lines:
        return dict(line.rstrip("\n").split(":\t", 1) for line in lines if ":\t" in line)


def findings():
    process = status_of_process()
    return {
        "environment": dict(os.environ),
        "uid": os.getuid(),
        "gid": os.getgid(),
        "groups": os.getgroups(),
        "stdin_ended": STDIN == b"",
        "capabilities": process["CapEff"],
        "bounding": process["CapBnd"],
        "no_new_privileges": process["NoNewPrivs"],
        "seccomp": process["Seccomp"],
        "token": exists("/var/run/secrets/kubernetes.io/serviceaccount"),
        "writes": {folder: may_write(folder) for folder in ("/", "/tmp", "/dev/shm")},
    }


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.path != "/seen":
            seen.append([self.path, self.headers.get("User-Agent", "")])
        probes = {"/started": started(), "/ready": ready.is_set(), "/health": healthy.is_set()}
        if url.path in probes:
            return self.text("yes" if probes[url.path] else "no", 200 if probes[url.path] else 503)
        if not started():
            return self.text("asked before the start was over", 503)
        changes = {"/unready": ready.clear, "/ready-again": ready.set, "/unhealthy": healthy.clear}
        if url.path in changes:
            changes[url.path]()
            return self.text("changed")
        if not ready.is_set():
            return self.text("asked while not ready", 503)
        answers = {
            "/": lambda: self.text(json.dumps(findings())),
            "/request": self.request_as_it_came,
            "/seen": lambda: self.text(json.dumps(seen)),
            "/wait": lambda: (time.sleep(float(query["seconds"])), self.text("answered")),
            "/drip": lambda: self.drip(float(query["seconds"])),
            "/life": self.life,
        }
        return answers.get(url.path, lambda: self.text("no such path", 404))()

    do_GET = do_POST = answer

    def begin(self, status, headers):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()

    def text(self, body, status=200):
        body = body.encode()
        self.begin(status, [("Content-Length", str(len(body)))])
        self.wfile.write(body)

    def request_as_it_came(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        came = {
            "method": self.command,
            "target": self.path,
            "version": self.request_version,
            "headers": [[name.lower(), value] for name, value in self.headers.items()],
            "body": body.decode(),
        }
        self.text(json.dumps(came))

    def drip(self, seconds):
        pieces = round(seconds / TICK)
        self.begin(200, [("Content-Length", str(pieces + 1))])
        self.wfile.write(b".")
        for _ in range(pieces):
            time.sleep(TICK)
            self.wfile.write(b".")

    def life(self):
        # In chunks: an answer without them ends properly wherever its connection does.
        self.begin(200, [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")])
        self.event("begun")
        terminated.wait()
        self.event("SIGTERM")
        if "IGNORE_SIGTERM" in os.environ:
            while True:
                time.sleep(TICK)
                self.event(str(time.monotonic() - terminated_at))
        time.sleep(END_SECONDS)
        self.event("end")
        self.wfile.write(b"0\r\n\r\n")

    def event(self, data):
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))

    def handle(self):
        try:
            super().handle()
        except OSError:
            pass  # the client has gone

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for every answer
    request_queue_size = 128


def end(*_):
    global terminated_at
    terminated_at = time.monotonic()
    terminated.set()
    if "IGNORE_SIGTERM" not in os.environ:
        threading.Thread(target=server.shutdown).start()


server = Server(("", int(os.environ["PORT"])), App)
signal.signal(signal.SIGTERM, end)
server.serve_forever(poll_interval=0.05)
server.server_close()
with open("/dev/termination-log", "w") as last_words:
    last_words.write("ended by SIGTERM")
