"""`python -m server web | socket`: one process of the server. `python -m server ops`: a command of operators."""

from __future__ import annotations

import sys

from runtime.early_signals import exit_when_told

if __name__ == "__main__":
    # A command that is stopped may not have done its work: status 1. A process is meant to be stopped: status 0.
    exit_when_told(1 if sys.argv[1:2] == ["ops"] else 0)

import os
from functools import partial

import structlog
import trio

from runtime.config import Config
from runtime.operations import operate
from runtime.process import run_process
from runtime.tracing.switch import open_tracer
from server.cli.run import run_command
from server.gateway.process import SocketGateway
from server.http.process import serve_web
from server.transport.listener import PortTaken
from store.redis.directory import NODE_BYTES


async def _serve_socket(config: Config) -> None:
    node = os.urandom(NODE_BYTES)
    structlog.contextvars.bind_contextvars(node=node.hex())
    with open_tracer(config, "socket", node.hex()) as tracer:
        gateway = SocketGateway(config, node, tracer)
        async with trio.open_nursery() as nursery:
            start = partial(operate, id=node.hex(), bus=gateway.redis)
            await nursery.start(start, config, "socket", gateway.health, gateway.samples)
            await gateway.run()
            nursery.cancel_scope.cancel()


def main() -> None:
    if sys.argv[1:2] == ["ops"]:
        run_command(sys.argv[2:])
    processes = {"web": serve_web, "socket": _serve_socket}
    if len(sys.argv) != 2 or sys.argv[1] not in processes:
        sys.exit("usage: python -m server web | socket | ops COMMAND")
    run_process(sys.argv[1], processes[sys.argv[1]], PortTaken)


if __name__ == "__main__":
    main()
