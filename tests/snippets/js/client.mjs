// nats.js with a token callback, as the README shows it; prints what it hears on orders.>.

import { setTimeout as delay } from "node:timers/promises";

import { connect, tokenAuthenticator } from "@nats-io/transport-node";

// In production: @azure/identity's getToken("api://nats-prod/.default").
const fetchToken = async () => await (await fetch(process.env.TOKEN_URL)).text();
const RENEW_MS = Number(process.env.RENEW_MS ?? 600_000);

// README: begin
// The library asks for the token synchronously, so it is renewed ahead of time.
let token = await fetchToken();
(async () => {
  for (;;) {
    await delay(RENEW_MS);
    token = await fetchToken().catch(() => token);
  }
})();
const nc = await connect({
  servers: process.env.NATS_URL,
  authenticator: tokenAuthenticator(() => token), // asked at every connect and reconnect
  maxReconnectAttempts: -1,
});
// README: end
for await (const message of nc.subscribe("orders.>")) console.log(message.string());
