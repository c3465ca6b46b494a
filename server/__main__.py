"""`python -m server web | socket`: one process of the server."""

from __future__ import annotations

from store.early_signals import exit_when_told

if __name__ == "__main__":
    exit_when_told(0)

import sys

from server.gateway import SocketGateway
from server.listener import PortTaken
from server.web import serve_web
from store.config import Config
from store.process import run_process


async def _serve_socket(config: Config) -> None:
    await SocketGateway(config).run()


def main() -> None:
    processes = {"web": serve_web, "socket": _serve_socket}
    if len(sys.argv) != 2 or sys.argv[1] not in processes:
        sys.exit("usage: python -m server web | socket")
    run_process(sys.argv[1], processes[sys.argv[1]], PortTaken)


if __name__ == "__main__":
    main()
