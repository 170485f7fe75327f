"""Publishes with nats-py, and prints the number of each message of which it knows that it arrived. Ends with its standard input."""

import asyncio
import os
import sys

import nats
from nats.errors import Error


async def main():
    name, role = os.environ["NAME"], os.environ["ROLE"]
    # A PONG of one connection says nothing of what was written to another.
    connection = 0

    async def on_change():
        nonlocal connection
        connection += 1
        print("connected", flush=True)

    async def on_disconnect():
        nonlocal connection
        connection += 1

    async def on_closed():
        print("ended closed", flush=True)

    async def on_error(error):
        pass

    while True:
        try:
            nc = await nats.connect(
                os.environ["NATS_URL"],
                user=role,
                password=os.environ["NATS_TOKEN"],
                reconnected_cb=on_change,
                disconnected_cb=on_disconnect,
                closed_cb=on_closed,
                error_cb=on_error,
                reconnect_time_wait=0.1,
                max_reconnect_attempts=-1,
                connect_timeout=5,
                ping_interval=2,
                max_outstanding_pings=3,
            )
            break
        except Exception:
            await asyncio.sleep(0.1)
    print("connected", flush=True)
    js = nc.jetstream(timeout=3)
    number = 0
    while True:
        first = number
        before = connection
        try:
            if role == "store":
                await js.publish(f"chaos.store.{name}.{number}", b"x")
            else:
                for _ in range(10):
                    await nc.publish(f"chaos.core.{name}.{number}", b"x")
                    number += 1
                # nats-py writes the PING of a flush before what waits to be published, so that its PONG says nothing of that.
                # The PING of a second one comes behind it. And a PONG that comes after its flush has given up ends nats-py's
                # reading, whereupon its flush succeeds without any: so they are counted.
                pongs = nc._pongs_received
                await nc.flush(timeout=3)
                await nc.flush(timeout=3)
                told = nc._pongs_received - pongs >= 2
            if role == "store" or (told and connection == before and nc.is_connected):
                print("ack", *range(first, max(number, first + 1)), flush=True)
        except (Error, asyncio.TimeoutError, OSError):
            pass
        number = max(number, first + 1)
        await asyncio.sleep(0.01)


async def until_the_end():
    work = asyncio.create_task(main())
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.read)
    work.cancel()
    os._exit(0)


asyncio.run(until_the_end())
