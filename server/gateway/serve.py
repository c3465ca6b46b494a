"""The process `socket`: the gateway with its port for operators, and the tracer around both."""

from __future__ import annotations

import os
from functools import partial

import structlog
import trio

from runtime.config import Config
from runtime.operations import operate
from runtime.tracing.switch import open_tracer
from server.gateway.process import SocketGateway
from store.redis.directory import NODE_BYTES


async def serve_socket(config: Config) -> None:
    """Serve until the process is told to stop."""
    node = os.urandom(NODE_BYTES)
    structlog.contextvars.bind_contextvars(node=node.hex())
    with open_tracer(config, "socket", node.hex()) as tracer:
        gateway = SocketGateway(config, node, tracer)
        async with trio.open_nursery() as nursery:
            start = partial(operate, id=node.hex(), bus=gateway.redis)
            await nursery.start(start, config, "socket", gateway.health, gateway.samples)
            await gateway.run()
            nursery.cancel_scope.cancel()
