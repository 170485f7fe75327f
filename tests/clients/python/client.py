"""Every operation of the client matrix with nats-py. The contract is in tests/clients/main.rs."""

import asyncio
import hashlib
import json
import os
import ssl
import sys
import time
import urllib.request

import nats
import nats.micro
from nats.errors import NoRespondersError
from nats.js.api import AckPolicy, ConsumerConfig

PATIENCE = float(os.environ.get("PATIENCE", "20"))
BRIEF = 1.0


def say(op, ok, detail=""):
    print(json.dumps({"op": op, "ok": ok, "detail": str(detail)}), flush=True)


def fresh_token():
    with urllib.request.urlopen(os.environ["TOKEN_URL"], timeout=5) as answer:
        return answer.read().decode()


class Client:
    def __init__(self):
        self.errors = []
        self.disconnected = asyncio.Event()
        self.reconnected = asyncio.Event()

    async def on_error(self, error):
        self.errors.append(str(error))

    async def on_disconnect(self):
        self.disconnected.set()

    async def on_reconnect(self):
        self.reconnected.set()

    async def connect(self):
        options = {}
        if "TOKEN_URL" in os.environ:
            options["token"] = fresh_token
        if "NATS_CA" in os.environ:
            options["tls"] = ssl.create_default_context(cafile=os.environ["NATS_CA"])
        self.nc = await nats.connect(
            os.environ["NATS_URL"],
            name="natsentry nats-py",
            error_cb=self.on_error,
            disconnected_cb=self.on_disconnect,
            reconnected_cb=self.on_reconnect,
            reconnect_time_wait=0.2,
            max_reconnect_attempts=50,
            **options,
        )
        self.js = self.nc.jetstream(timeout=PATIENCE)
        return f"server {self.nc.connected_server_version}"

    async def step(self, op, work):
        try:
            say(op, True, await asyncio.wait_for(work, PATIENCE) or "")
        except Exception as error:
            say(op, False, f"{type(error).__name__}: {error}; asynchronous: {self.errors}")

    # What the role permits.

    async def publish_subscribe(self):
        sub = await self.nc.subscribe("app.events.*")
        await self.nc.publish("app.events.one", b"hello")
        message = await sub.next_msg(PATIENCE)
        assert (message.subject, message.data) == ("app.events.one", b"hello")
        await sub.unsubscribe()

    async def wildcards(self):
        subs = [await self.nc.subscribe(subject) for subject in ("app.wild.>", "app.*.card.*")]
        await self.nc.publish("app.wild.card.one", b"joker")
        for sub in subs:
            message = await sub.next_msg(PATIENCE)
            assert (message.subject, message.data) == ("app.wild.card.one", b"joker")
            await sub.unsubscribe()

    async def large_payload(self):
        sub = await self.nc.subscribe("app.large")
        data = bytes(bytearray(range(250)) * 4000)
        await self.nc.publish("app.large", data)
        message = await sub.next_msg(PATIENCE)
        assert message.data == data, len(message.data)
        await sub.unsubscribe()
        return f"{len(data)} bytes"

    async def flush_rtt(self):
        started = time.monotonic()
        await self.nc.flush(timeout=PATIENCE)
        assert 0 < time.monotonic() - started < PATIENCE

    async def queue_group(self):
        seen = [0, 0]
        done = asyncio.Event()

        def member(index):
            async def handle(_message):
                seen[index] += 1
                if sum(seen) == 100:
                    done.set()

            return handle

        subs = [await self.nc.subscribe("app.work", "crew", member(index)) for index in (0, 1)]
        await self.nc.flush()
        for number in range(100):
            await self.nc.publish("app.work", b"%d" % number)
        await done.wait()
        await self.nc.flush()
        assert sum(seen) == 100 and min(seen) > 0, seen
        for sub in subs:
            await sub.unsubscribe()

    async def request_reply(self):
        async def answer(message):
            await message.respond(b"re:" + message.data)

        sub = await self.nc.subscribe("app.echo", cb=answer)
        reply = await self.nc.request("app.echo", b"ping", timeout=PATIENCE)
        assert reply.data == b"re:ping"
        await sub.unsubscribe()

    async def headers(self):
        sub = await self.nc.subscribe("app.headers")
        await self.nc.publish("app.headers", b"body", headers={"X-One": "1", "X-Two": "zwei"})
        message = await sub.next_msg(PATIENCE)
        assert message.data == b"body"
        assert message.headers == {"X-One": "1", "X-Two": "zwei"}, message.headers
        await sub.unsubscribe()

    async def no_responders(self):
        started = time.monotonic()
        try:
            await self.nc.request("app.nobody", b"?", timeout=PATIENCE)
        except NoRespondersError:
            assert time.monotonic() - started < PATIENCE / 2
            return
        raise AssertionError("somebody answered")

    async def jetstream_publish(self):
        for number in range(10):
            ack = await self.js.publish(f"orders.eu.{number}", b"order %d" % number)
            assert ack.stream == "ORDERS" and ack.seq == number + 1, ack

    async def pull_consumer(self):
        sub = await self.js.pull_subscribe("orders.eu.>", durable="worker", stream="ORDERS")
        seen = []
        while len(seen) < 10:
            for message in await sub.fetch(5, timeout=PATIENCE):
                seen.append(message.data.decode())
                await message.ack_sync(timeout=PATIENCE)
        assert seen == [f"order {number}" for number in range(10)], seen
        assert (await sub.consumer_info()).num_ack_pending == 0

    async def push_consumer(self):
        config = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT)
        sub = await self.js.subscribe("orders.eu.>", stream="ORDERS", config=config, manual_ack=True)
        seen = []
        while len(seen) < 10:
            message = await sub.next_msg(PATIENCE)
            seen.append(message.data.decode())
            await message.ack_sync(timeout=PATIENCE)
        assert seen == [f"order {number}" for number in range(10)], seen
        await sub.unsubscribe()

    async def ordered_consumer(self):
        sub = await self.js.subscribe("orders.eu.>", stream="ORDERS", ordered_consumer=True)
        seen = [(await sub.next_msg(PATIENCE)).data.decode() for _ in range(10)]
        assert seen == [f"order {number}" for number in range(10)], seen
        await sub.unsubscribe()

    async def kv_put_get(self):
        kv = await self.js.key_value("config")
        revision = await kv.put("app.limit", b"12")
        entry = await kv.get("app.limit")
        assert (entry.value, entry.revision) == (b"12", revision)
        await kv.delete("app.limit")

    async def kv_watch(self):
        kv = await self.js.key_value("config")
        watcher = await kv.watch("app.*", include_history=False)
        # The initial state ends with None; the delete marker of the step before comes first.
        while await watcher.updates(timeout=PATIENCE) is not None:
            pass
        await kv.put("app.watched", b"yes")
        entry = await watcher.updates(timeout=PATIENCE)
        assert (entry.key, entry.value) == ("app.watched", b"yes"), entry
        await watcher.stop()

    async def object_put_get(self):
        store = await self.js.object_store("files")
        data = bytes(bytearray(range(251)) * (5 * 1024 * 1024 // 251 + 1))[: 5 * 1024 * 1024]
        await store.put("big", data)
        got = await store.get("big")
        assert hashlib.sha256(got.data).digest() == hashlib.sha256(data).digest()
        return f"{len(got.data)} bytes"

    async def service(self):
        async def echo(request):
            await request.respond(b"re:" + request.data)

        service = await nats.micro.add_service(self.nc, name="echo", version="1.0.0")
        await service.add_endpoint(name="echo", subject="app.service", handler=echo)
        reply = await self.nc.request("app.service", b"ping", timeout=PATIENCE)
        assert reply.data == b"re:ping", reply
        info = await self.nc.request("$SRV.INFO.echo", b"", timeout=PATIENCE)
        assert json.loads(info.data)["endpoints"][0]["subject"] == "app.service", info
        await service.stop()

    async def reconnect(self):
        sub = await self.nc.subscribe("app.after.*")
        await self.nc.flush()
        self.disconnected.clear()
        self.reconnected.clear()
        print(json.dumps({"ready": "reconnect"}), flush=True)
        await self.disconnected.wait()
        await self.reconnected.wait()
        await self.nc.publish("app.after.reconnect", b"back")
        assert (await sub.next_msg(PATIENCE)).data == b"back"
        await sub.unsubscribe()

    async def drain(self):
        seen = []

        async def slowly(message):
            await asyncio.sleep(0.01)
            seen.append(message.data)

        await self.nc.subscribe("app.drain", cb=slowly)
        for number in range(20):
            await self.nc.publish("app.drain", b"%d" % number)
        await self.nc.flush()
        await self.nc.drain()
        assert len(seen) == 20 and self.nc.is_closed, (len(seen), self.nc.is_closed)

    async def permitted(self):
        for op in (
            "publish_subscribe wildcards large_payload flush_rtt queue_group request_reply headers no_responders"
            " jetstream_publish pull_consumer push_consumer ordered_consumer kv_put_get kv_watch object_put_get service"
            " reconnect drain"
        ).split():
            await self.step(op, getattr(self, op)())

    async def expiring(self):
        for op in "publish_subscribe reconnect drain".split():
            await self.step(op, getattr(self, op)())

    async def brief(self):
        for op in "publish_subscribe drain".split():
            await self.step(op, getattr(self, op)())

    # What it does not.

    async def refused_call(self, op, subject, call):
        """The call may fail or not; the violation arrives on the error callback, and says the subject.

        A call before may have been repeated by the library, so that its violation arrives late."""
        before = len(self.errors)
        outcome = "returned"
        try:
            await asyncio.wait_for(call(), BRIEF)
        except Exception as error:
            outcome = type(error).__name__
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            for error in self.errors[before:]:
                if "permissions violation" in error.lower() and subject.lower() in error.lower():
                    return say(op, True, f"{error} | {outcome}")
            await asyncio.sleep(0.01)
        say(op, False, f"no violation arrived; the call {outcome}; asynchronous: {self.errors}")

    async def refused(self):
        nc, js = self.nc, self.nc.jetstream(timeout=BRIEF)

        async def fetch():
            sub = await js.pull_subscribe_bind(consumer="clerk", stream="PAYROLL")
            await sub.fetch(1, timeout=BRIEF)

        create = ConsumerConfig(durable_name="thief", ack_policy=AckPolicy.EXPLICIT)
        for op, subject, call in (
            ("publish", "secret.plan", lambda: nc.publish("secret.plan", b"x")),
            ("headers", "secret.headers", lambda: nc.publish("secret.headers", b"x", headers={"A": "b"})),
            ("subscribe", "secret.>", lambda: nc.subscribe("secret.>")),
            ("queue_group", "secret.work", lambda: nc.subscribe("secret.work", queue="crew")),
            ("request_reply", "secret.ask", lambda: nc.request("secret.ask", b"?", timeout=BRIEF)),
            ("jetstream_publish", "payroll.june", lambda: js.publish("payroll.june", b"x")),
            ("pull_consumer", "PAYROLL.clerk", fetch),
            ("consumer_create", "PAYROLL.thief", lambda: js.add_consumer("PAYROLL", create)),
            ("ordered_consumer", "PAYROLL", lambda: js.subscribe(
                "payroll.>", stream="PAYROLL", ordered_consumer=True
            )),
            ("kv", "KV_vault", lambda: js.key_value("vault")),
            ("object", "OBJ_archive", lambda: js.object_store("archive")),
            ("stream_delete", "DELETE.ORDERS", lambda: js.delete_stream("ORDERS")),
        ):
            await self.refused_call(op, subject, call)
        self.js = self.nc.jetstream(timeout=PATIENCE)
        await self.step("alive", self.publish_subscribe())
        say("same_session", not self.disconnected.is_set(), self.errors[-1:])
        await self.nc.close()


async def main():
    client = Client()
    try:
        say("connect", True, await client.connect())
    except Exception as error:
        say("connect", False, f"{type(error).__name__}: {error}; asynchronous: {client.errors}")
        sys.exit(1)
    await getattr(client, sys.argv[1])()


asyncio.run(main())
