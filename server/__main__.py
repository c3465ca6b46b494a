"""`python -m server web | socket`: one process of the server."""

from __future__ import annotations

import sys

import trio

from server.gateway import SocketGateway
from server.listener import PortTaken
from server.web import serve_web
from store.config import Config, ConfigError
from store.log import configure_logging


async def _serve_socket(config: Config) -> None:
    await SocketGateway(config).run()


def main() -> None:
    processes = {"web": serve_web, "socket": _serve_socket}
    if len(sys.argv) != 2 or sys.argv[1] not in processes:
        sys.exit("usage: python -m server web | socket")
    name = sys.argv[1]
    try:
        config = Config.from_environment()
        configure_logging(name, config.log_level)
        trio.run(processes[name], config)
    except (ConfigError, PortTaken) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
