//! An application that fails as often as it is told, and says which revision it is.

use serde_json::{Value, json};

use crate::fixture::image;

/// Every `FAIL_EVERY`th answer is 500; 0: none.
const APP: &str = r#"
import http.server, itertools, os, signal, threading
every, count = int(os.environ["FAIL_EVERY"]), itertools.count(1)
class Flaky(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        fails = every and next(count) % every == 0
        text = f"Hello ({os.environ['K_REVISION']})\n".encode()
        self.send_response(500 if fails else 200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Flaky)
server.socket.listen(128)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
"#;

/// A spec of it, in which every so many requests fail; 0: none.
pub fn failing_every(requests: u32) -> Value {
    json!({
        "image": image("hello-python"),
        "command": ["/usr/bin/python3", "-I", "-c", APP],
        "env": [{"name": "FAIL_EVERY", "value": requests.to_string()}],
    })
}
