"""The command line of `python -m server ops`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, TypeAlias

from server.cli.audit import MAX_EVENTS, show_audit
from server.cli.doctor import run_checks
from server.cli.messages import show_message
from server.cli.nodes import drain_node, list_nodes, show_node
from server.cli.services import Ask, CommandAnswer, OperatorServices
from server.cli.user_actions import ACTIONS, act, end_sessions
from server.cli.users import show_user

if TYPE_CHECKING:
    _Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

USER_HELP = "show a user; or, with an action, change what the user may do"


def parser() -> argparse.ArgumentParser:
    """The command line. `ask` of what it parses is the command; `config` has none, since it needs no services."""
    made = argparse.ArgumentParser(
        prog="python -m server ops",
        description="Shows operators what the server does and why, and lets them act. docs/operations.md has examples.",
    )
    commands = made.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_message(commands)
    _add_user(commands)
    _add_sessions(commands)
    _add_node(commands)
    _add_audit(commands)
    _add(commands, "doctor", "check everything that the processes need, and say what to do", run_checks)
    _add(commands, "config", "show each variable with its value and its source; secrets are masked", None)
    return made


def _add_message(commands: _Commands) -> None:
    message = _add(commands, "message", "show what became of a message, without its content, and why", show_message)
    message.add_argument(
        "which", nargs="+", metavar="MESSAGE | CONVERSATION SEQ", help="the id of a message, or its place"
    )
    message.add_argument("--user", metavar="NAME", help="only this recipient")


def _add_user(commands: _Commands) -> None:
    user = _add(commands, "user", USER_HELP, _user)
    help = f"one of {', '.join(ACTIONS)}; and a username, or the id of a user"
    user.add_argument("words", nargs="+", metavar="[ACTION] NAME", help=help)
    user.add_argument("--now", action="store_true", help="delete: at once, without days to think it over")
    user.add_argument("--messages", action="store_true", help="delete: the user's messages, too, for everyone")
    user.add_argument("--yes", action="store_true", help="delete: really")
    user.add_argument("--to", metavar="FILE", help="export: wait until it is ready, and write it here (gzip)")
    user.add_argument("--wait", type=float, default=300.0, metavar="SECONDS", help="export: for so long (%(default)s)")
    _add_operator(user)


async def _user(services: OperatorServices, options: argparse.Namespace) -> CommandAnswer:
    # One word is always a name, also that of a user who is called like an action.
    if len(options.words) == 1:
        return await show_user(services, options)
    return await act(services, options)


def _add_sessions(commands: _Commands) -> None:
    sessions = commands.add_parser("sessions", help="end the sessions of a user")
    end = _add(_sub(sessions), "end", "log out all devices of a user, or one", end_sessions)
    end.add_argument("name", metavar="NAME", help="a username, or the id of a user")
    end.add_argument("--device", metavar="DEVICE", help="only this one, by its id")
    _add_operator(end)


def _add_node(commands: _Commands) -> None:
    node = _sub(commands.add_parser("node", help="show nodes, or have one stop"))
    _add(node, "list", "show each node, and what it holds", list_nodes)
    for name, help, ask in (
        ("show", "show all that a node says of itself", show_node),
        ("drain", "have a node stop as SIGTERM does: its clients move to others", drain_node),
    ):
        command = _add(node, name, help, ask)
        command.add_argument("node", metavar="NODE", help="the beginning of its id")
        if name == "drain":
            _add_operator(command)


def _add_audit(commands: _Commands) -> None:
    audit = _add(commands, "audit", "show security events, the newest first", show_audit)
    audit.add_argument("--user", metavar="NAME", help="only those of this user, who sees that you have looked")
    audit.add_argument("--since", metavar="TIME", help="such as 30m, 2h, 7d, 2026-01-31 or 2026-01-31T08:00Z")
    audit.add_argument("--limit", type=_limit, default=50, metavar="N", help="at most so many (%(default)s)")
    _add_operator(audit)


def _sub(command: argparse.ArgumentParser) -> _Commands:
    return command.add_subparsers(dest="subcommand", metavar="COMMAND", required=True)


def _add(commands: _Commands, name: str, help: str, ask: Ask | None) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=help, description=help)
    command.add_argument("--json", action="store_true", help="print JSON, for programs")
    command.set_defaults(ask=ask)
    return command


def _add_operator(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--as", dest="operator", metavar="NAME", help="your name in the audit log (default: who has logged in here)"
    )


def _limit(text: str) -> int:
    limit = int(text) if text.isascii() and text.isdecimal() else 0
    if not 1 <= limit <= MAX_EVENTS:
        raise argparse.ArgumentTypeError(f"must be 1 to {MAX_EVENTS}")
    return limit
