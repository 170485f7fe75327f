"""nats-py with a token callback, as the README shows it; prints what it hears on orders.>."""

import asyncio
import os
import urllib.request

import nats


def token():
    """In production: azure.identity's get_token("api://nats-prod/.default").token."""
    with urllib.request.urlopen(os.environ["TOKEN_URL"], timeout=5) as answer:
        return answer.read().decode()


async def main():
    # README: begin
    nc = await nats.connect(
        os.environ["NATS_URL"],
        token=token,  # asked at every connect and reconnect
        max_reconnect_attempts=-1,
    )
    # README: end
    sub = await nc.subscribe("orders.>")
    async for message in sub.messages:
        print(message.data.decode(), flush=True)


asyncio.run(main())
