// Connects with nats.js, prints what happens to the connection as JSON lines, and ends with its standard input.

import { connect, tokenAuthenticator } from "@nats-io/transport-node";

const say = (event, detail = "") => process.stdout.write(JSON.stringify({ event, detail: String(detail) }) + "\n");

// The library's callback has to be synchronous, so tokens are fetched ahead of it.
let token = await (await fetch(process.env.TOKEN_URL)).text();
const fetching = setInterval(async () => {
  try {
    token = await (await fetch(process.env.TOKEN_URL)).text();
  } catch {
    // The next turn tries again.
  }
}, 300);
fetching.unref();

let nc;
try {
  nc = await connect({
    servers: process.env.NATS_URL,
    authenticator: tokenAuthenticator(() => token),
    reconnectTimeWait: 100,
    maxReconnectAttempts: Number(process.env.ATTEMPTS ?? "-1"),
  });
} catch (error) {
  say("failed", `${error.name}: ${error.message}`);
  process.exit(0);
}

(async () => {
  for await (const status of nc.status()) {
    if (status.type === "disconnect") say("disconnected");
    if (status.type === "reconnect") say("reconnected");
    if (status.type === "error") say("error", status.error?.message ?? status.data);
  }
})();
nc.closed().then((error) => say("closed", error?.message ?? ""));

say("connected");
nc.publish("forbidden.plan", "x");
await nc.flush();
const began = performance.now();
try {
  await nc.request("forbidden.ask", "x", { timeout: 15_000 });
  say("request", "answered");
} catch (error) {
  say("request", performance.now() - began < 5_000 ? "failed fast" : `failed late: ${error.message}`);
}
process.stdin.on("end", () => process.exit(0)).resume();
