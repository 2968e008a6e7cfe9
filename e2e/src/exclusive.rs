//! An application that tells when two requests are with it at once.

use serde_json::{Value, json};

use crate::fixture::image;

/// One request at a time; whoever comes beside it gets 500. The name of the pod is the answer.
const APP: &str = r#"
import http.server, os, signal, socket, threading, time
busy = threading.Lock()
class Exclusive(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        alone = busy.acquire(blocking=False)
        time.sleep(0.03)
        if alone:
            busy.release()
        text = socket.gethostname().encode()
        self.send_response(200 if alone else 500)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), Exclusive)
server.socket.listen(128)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
"#;

/// Image and command of its container, in a Function or in a pod. It listens on `PORT`, or 8080, and must not be probed by requests.
pub fn container() -> Value {
    json!({"image": image("hello-python"), "command": ["/usr/bin/python3", "-I", "-c", APP]})
}
