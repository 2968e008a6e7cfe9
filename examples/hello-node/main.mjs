// The smallest Function in Node.js: it answers every request with one line of text. No dependency.
//
// It keeps to the container contract: it listens on $PORT, and at SIGTERM it finishes what it has begun and exits.

import { createServer } from "node:http";

const port = Number(process.env.PORT ?? 8080);
const revision = process.env.K_REVISION ?? "my machine";

const server = createServer((request, response) => {
  request.resume(); // an unread body would block the connection
  response.setHeader("Content-Type", "text/plain; charset=utf-8");
  response.end(`Hello from Node.js! (${revision})\n`);
});

server.listen(port, () => console.log(`listening on port ${port}`));

process.on("SIGTERM", () => {
  // Takes no new connection, closes the idle ones, and lets requests finish; then nothing keeps the process alive.
  server.close();
  server.closeIdleConnections();
});
