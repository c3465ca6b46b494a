"""`python -m server web | socket`: one process of the server. `python -m server ops`: a command of operators.

Each imports its own modules alone: a node without the modules of HTTP starts in half the time.
"""

from __future__ import annotations

import sys

from runtime.early_signals import exit_when_told

if __name__ == "__main__":
    # A command that is stopped may not have done its work: status 1. A process is meant to be stopped: status 0.
    exit_when_told(1 if sys.argv[1:2] == ["ops"] else 0)


def main() -> None:
    match sys.argv[1:]:
        case ["ops", *arguments]:
            from server.cli.run import run_command

            run_command(arguments)
        case ["web"]:
            from runtime.process import run_process
            from server.http.process import serve_web
            from server.transport.listener import PortTaken

            run_process("web", serve_web, PortTaken)
        case ["socket"]:
            from runtime.process import run_process
            from server.gateway.serve import serve_socket
            from server.transport.listener import PortTaken

            run_process("socket", serve_socket, PortTaken)
        case _:
            sys.exit("usage: python -m server web | socket | ops COMMAND")


if __name__ == "__main__":
    main()
