// Every operation of the client matrix with nats.js. The contract is in tests/clients/main.rs.

import { createHash } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { Worker } from "node:worker_threads";

import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
import { Objm } from "@nats-io/obj";
import { connect, createInbox, headers, NoRespondersError, RequestError, tokenAuthenticator } from "@nats-io/transport-node";

const PATIENCE = Number(process.env.PATIENCE ?? 20) * 1_000;
const BRIEF = 1_000;
const text = new TextDecoder();

const print = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const say = (op, ok, detail = "") => print({ op, ok, detail: String(detail) });

function assert(condition, ...detail) {
  if (!condition) throw new Error(`not as expected: ${JSON.stringify(detail)}`);
}

async function within(milliseconds, promise) {
  const timer = new AbortController();
  const late = delay(milliseconds, undefined, { signal: timer.signal }).then(() => {
    throw new Error("took too long");
  });
  late.catch(() => {});
  return await Promise.race([promise, late]).finally(() => timer.abort());
}

// The library's callback has to be synchronous, so another thread fetches while this one waits.
const WORKER = `
const { parentPort, workerData } = require("node:worker_threads");
parentPort.on("message", async () => {
  const answer = await fetch(process.env.TOKEN_URL);
  const token = Buffer.from(await answer.text());
  new Uint8Array(workerData.text).set(token);
  Atomics.store(workerData.length, 0, token.length);
  Atomics.notify(workerData.length, 0);
});`;
const shared = { length: new Int32Array(new SharedArrayBuffer(4)), text: new SharedArrayBuffer(65536) };
let fetcher;

function freshToken() {
  Atomics.store(shared.length, 0, 0);
  fetcher.postMessage("fetch");
  Atomics.wait(shared.length, 0, 0, PATIENCE);
  return text.decode(new Uint8Array(shared.text).slice(0, shared.length[0]));
}

const errors = [];
const events = { disconnect: 0, reconnect: 0 };
let nc;

async function open() {
  if (process.env.TOKEN_URL) {
    fetcher = new Worker(WORKER, { eval: true, workerData: shared });
    await new Promise((resolve) => fetcher.once("online", resolve));
    fetcher.unref();
  }
  const url = new URL(process.env.NATS_URL);
  const options = process.env.TOKEN_URL
    ? { authenticator: tokenAuthenticator(freshToken) }
    : { user: decodeURIComponent(url.username), pass: decodeURIComponent(url.password) };
  nc = await connect({
    servers: url.host,
    name: "natsentry nats.js",
    timeout: PATIENCE,
    reconnectTimeWait: 200,
    maxReconnectAttempts: 50,
    ...(process.env.NATS_CA ? { tls: { caFile: process.env.NATS_CA } } : {}),
    ...options,
  });
  (async () => {
    for await (const status of nc.status()) {
      if (status.type === "error") errors.push(status.error.message);
      if (status.type in events) events[status.type] += 1;
    }
  })();
  return `server ${nc.info.version}`;
}

async function step(op, work) {
  try {
    say(op, true, (await within(PATIENCE, work())) ?? "");
  } catch (error) {
    say(op, false, `${error.name}: ${error.message}; asynchronous: ${errors}`);
  }
}

async function next(sub) {
  const { value } = await within(PATIENCE, sub[Symbol.asyncIterator]().next());
  return value;
}

async function until(condition, what) {
  for (let waited = 0; waited < PATIENCE; waited += 10) {
    if (condition()) return;
    await delay(10);
  }
  throw new Error(`waited in vain for ${what}`);
}

const orders = Array.from({ length: 10 }, (_, number) => `order ${number}`);

const permitted = {
  async publish_subscribe() {
    const sub = nc.subscribe("app.events.*", { max: 1 });
    nc.publish("app.events.one", "hello");
    const message = await next(sub);
    assert(message.subject === "app.events.one" && message.string() === "hello");
  },

  async wildcards() {
    const subs = ["app.wild.>", "app.*.card.*"].map((subject) => nc.subscribe(subject, { max: 1 }));
    nc.publish("app.wild.card.one", "joker");
    for (const sub of subs) {
      const message = await next(sub);
      assert(message.subject === "app.wild.card.one" && message.string() === "joker");
    }
  },

  async large_payload() {
    const sub = nc.subscribe("app.large", { max: 1 });
    const data = new Uint8Array(1_000_000).map((_, index) => index % 251);
    nc.publish("app.large", data);
    assert(Buffer.compare((await next(sub)).data, data) === 0);
    return `${data.length} bytes`;
  },

  async flush_rtt() {
    await nc.flush();
    assert((await nc.rtt()) >= 0);
  },

  async queue_group() {
    const seen = [0, 0];
    const subs = seen.map((_, index) =>
      nc.subscribe("app.work", { queue: "crew", callback: () => (seen[index] += 1) }));
    for (let number = 0; number < 100; number++) nc.publish("app.work", String(number));
    await until(() => seen[0] + seen[1] >= 100, "100 messages");
    await nc.flush();
    assert(seen[0] + seen[1] === 100 && Math.min(...seen) > 0, seen);
    subs.forEach((sub) => sub.unsubscribe());
  },

  async request_reply() {
    const sub = nc.subscribe("app.echo", { callback: (_, message) => message.respond(`re:${message.string()}`) });
    const reply = await nc.request("app.echo", "ping", { timeout: PATIENCE });
    assert(reply.string() === "re:ping");
    sub.unsubscribe();
  },

  async headers() {
    const sub = nc.subscribe("app.headers", { max: 1 });
    const sent = headers();
    sent.set("X-One", "1");
    sent.set("X-Two", "zwei");
    nc.publish("app.headers", "body", { headers: sent });
    const message = await next(sub);
    assert(message.string() === "body" && message.headers.get("X-One") === "1" && message.headers.get("X-Two") === "zwei");
  },

  async no_responders() {
    try {
      await nc.request("app.nobody", "?", { timeout: PATIENCE });
    } catch (error) {
      const cause = error instanceof RequestError ? error.cause : error;
      assert(cause instanceof NoRespondersError || error.isNoResponders?.(), error.message);
      return;
    }
    throw new Error("somebody answered");
  },

  async jetstream_publish() {
    const js = jetstream(nc);
    for (const [number, order] of orders.entries()) {
      const ack = await js.publish(`orders.eu.${number}`, order);
      assert(ack.stream === "ORDERS" && ack.seq === number + 1, ack);
    }
  },

  async pull_consumer() {
    const manager = await jetstreamManager(nc);
    await manager.consumers.add("ORDERS", {
      durable_name: "worker",
      ack_policy: AckPolicy.Explicit,
      filter_subject: "orders.eu.>",
    });
    const consumer = await jetstream(nc).consumers.get("ORDERS", "worker");
    const seen = [];
    while (seen.length < 10) {
      for await (const message of await consumer.fetch({ max_messages: 5, expires: 2_000 })) {
        seen.push(message.string());
        assert(await message.ackAck());
      }
    }
    assert(seen.join() === orders.join(), seen);
    assert((await consumer.info()).num_ack_pending === 0);
  },

  async push_consumer() {
    const manager = await jetstreamManager(nc);
    const { name } = await manager.consumers.add("ORDERS", {
      deliver_subject: createInbox(),
      deliver_policy: DeliverPolicy.All,
      ack_policy: AckPolicy.Explicit,
      filter_subject: "orders.eu.>",
    });
    const consumer = await jetstream(nc).consumers.getPushConsumer("ORDERS", name);
    const seen = [];
    const messages = await consumer.consume();
    for await (const message of messages) {
      seen.push(message.string());
      assert(await message.ackAck());
      if (seen.length === 10) break;
    }
    assert(seen.join() === orders.join(), seen);
    await messages.close();
  },

  async ordered_consumer() {
    const consumer = await jetstream(nc).consumers.get("ORDERS", { filter_subjects: "orders.eu.>" });
    const seen = [];
    const messages = await consumer.consume();
    for await (const message of messages) {
      seen.push(message.string());
      if (seen.length === 10) break;
    }
    assert(seen.join() === orders.join(), seen);
    await messages.close();
  },

  async kv_put_get() {
    const kv = await new Kvm(nc).open("config");
    const revision = await kv.put("app.limit", "12");
    const entry = await kv.get("app.limit");
    assert(entry.string() === "12" && entry.revision === revision);
    await kv.delete("app.limit");
  },

  async kv_watch() {
    const kv = await new Kvm(nc).open("config");
    const watch = await kv.watch({ key: "app.*", include: "updates" });
    await kv.put("app.watched", "yes");
    const { value } = await watch[Symbol.asyncIterator]().next();
    assert(value.key === "app.watched" && value.string() === "yes", value?.key);
    watch.stop();
  },

  async object_put_get() {
    const store = await new Objm(nc).open("files");
    const data = new Uint8Array(5 * 1024 * 1024).map((_, index) => index % 251);
    await store.putBlob({ name: "big" }, data);
    const got = await store.getBlob("big");
    const digest = (bytes) => createHash("sha256").update(bytes).digest("hex");
    assert(digest(got) === digest(data));
    return `${got.length} bytes`;
  },

  async reconnect() {
    const sub = nc.subscribe("app.after.*", { max: 1 });
    await nc.flush();
    const before = { ...events };
    print({ ready: "reconnect" });
    await until(() => events.disconnect > before.disconnect && events.reconnect > before.reconnect, "a reconnect");
    nc.publish("app.after.reconnect", "back");
    assert((await next(sub)).string() === "back");
  },

  async drain() {
    let seen = 0;
    const sub = nc.subscribe("app.drain");
    const reading = (async () => {
      for await (const _ of sub) {
        await delay(10);
        seen += 1;
      }
    })();
    for (let number = 0; number < 20; number++) nc.publish("app.drain", String(number));
    await nc.flush();
    await nc.drain();
    await reading;
    assert(seen === 20 && nc.isClosed(), seen);
  },
};

const managed = () => jetstreamManager(nc, { timeout: BRIEF, checkAPI: false });
const streaming = () => jetstream(nc, { timeout: BRIEF });

const refused = {
  publish: () => nc.publish("secret.plan", "x"),
  headers: () => nc.publish("secret.headers", "x", { headers: headers() }),
  subscribe: () => next(nc.subscribe("secret.>")),
  queue_group: () => next(nc.subscribe("secret.work", { queue: "crew" })),
  request_reply: () => nc.request("secret.ask", "?", { timeout: BRIEF }),
  jetstream_publish: () => streaming().publish("payroll.june", "x", { timeout: BRIEF }),
  async pull_consumer() {
    // Bound without INFO, which would be refused first.
    const consumer = streaming().consumers.getConsumerFromInfo({
      stream_name: "PAYROLL",
      name: "clerk",
      config: { ack_policy: AckPolicy.Explicit },
    });
    for await (const _ of await consumer.fetch({ max_messages: 1, expires: BRIEF })) { /* nothing comes */ }
  },
  consumer_create: async () =>
    (await managed()).consumers.add("PAYROLL", { durable_name: "thief", ack_policy: AckPolicy.Explicit }),
  ordered_consumer: () => streaming().consumers.get("PAYROLL", { filter_subjects: "payroll.>" }),
  kv: async () => (await new Kvm(streaming()).open("vault")).get("key"),
  object: async () => (await new Objm(streaming()).open("archive")).status(),
  stream_delete: async () => (await managed()).streams.delete("ORDERS"),
};

// The violation says the subject: a call before may have been repeated by the library, so that its own arrives late.
const subjects = {
  publish: "secret.plan",
  headers: "secret.headers",
  subscribe: "secret.>",
  queue_group: "secret.work",
  request_reply: "secret.ask",
  jetstream_publish: "payroll.june",
  pull_consumer: "PAYROLL.clerk",
  consumer_create: "PAYROLL.thief",
  ordered_consumer: "PAYROLL",
  kv: "KV_vault",
  object: "OBJ_archive",
  stream_delete: "DELETE.ORDERS",
};

async function refuse(op, call) {
  const before = errors.length;
  let outcome = "returned";
  let thrown = "";
  try {
    await within(BRIEF, call());
  } catch (error) {
    outcome = error.name;
    thrown = error.message;
  }
  const violation = () =>
    [...errors.slice(before), thrown].find((error) => error.includes("Permissions Violation") && error.includes(subjects[op]));
  try {
    await until(violation, "a violation");
    say(op, true, `${violation()} | ${outcome}`);
  } catch {
    say(op, false, `no violation arrived; the call ${outcome} ${thrown}; asynchronous: ${errors}`);
  }
}

try {
  say("connect", true, await open());
} catch (error) {
  say("connect", false, `${error.name}: ${error.message}`);
  process.exit(1);
}
if (process.argv[2] === "permitted") {
  for (const [op, work] of Object.entries(permitted)) await step(op, work);
} else if (process.argv[2] === "expiring") {
  for (const op of ["publish_subscribe", "reconnect", "drain"]) await step(op, permitted[op]);
} else if (process.argv[2] === "brief") {
  for (const op of ["publish_subscribe", "drain"]) await step(op, permitted[op]);
} else {
  for (const [op, call] of Object.entries(refused)) await refuse(op, call);
  await step("alive", permitted.publish_subscribe);
  say("same_session", events.disconnect === 0, errors.at(-1));
  await nc.close();
}
