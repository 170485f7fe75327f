"""Connects with nats-py, prints what happens to the connection as JSON lines, and ends with its standard input."""

import asyncio
import json
import os
import sys
import time
import urllib.request

import nats
from nats.errors import NoRespondersError


def say(event, detail=""):
    print(json.dumps({"event": event, "detail": str(detail)}), flush=True)


def fresh_token():
    with urllib.request.urlopen(os.environ["TOKEN_URL"], timeout=5) as answer:
        return answer.read().decode()


async def main():
    async def on_error(error):
        say("error", error)

    async def on_disconnect():
        say("disconnected")

    async def on_reconnect():
        say("reconnected")

    async def on_close():
        say("closed")

    try:
        nc = await nats.connect(
            os.environ["NATS_URL"],
            token=fresh_token,
            error_cb=on_error,
            disconnected_cb=on_disconnect,
            reconnected_cb=on_reconnect,
            closed_cb=on_close,
            reconnect_time_wait=0.1,
            max_reconnect_attempts=int(os.environ.get("ATTEMPTS", "-1")),
        )
    except Exception as error:
        say("failed", f"{type(error).__name__}: {error}")
        return
    say("connected")
    await nc.publish("forbidden.plan", b"x")
    await nc.flush()
    began = time.monotonic()
    try:
        await nc.request("forbidden.ask", b"x", timeout=15)
        say("request", "answered")
    except NoRespondersError:
        say("request", "failed fast" if time.monotonic() - began < 5 else "failed late")
    except Exception as error:
        say("request", f"{type(error).__name__}: {error}")
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)


asyncio.run(main())
