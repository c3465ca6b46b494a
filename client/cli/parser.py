"""The grammar of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable

from client.chat import COMMANDS
from client.cli import accounts, talks
from client.cli.environment import VARIABLES
from client.rules import username_of
from client.unlock import NOT_ENCRYPTED, is_possible


def make_parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    width = max(map(len, VARIABLES))
    variables = "\n".join(f"  {name:{width}}  {meaning}" for name, meaning in VARIABLES.items())
    parser = argparse.ArgumentParser(
        prog="python -m client",
        description="ALO Shield in a terminal.",
        epilog=f"environment:\n{variables}" + ("" if is_possible() else f"\n\n{NOT_ENCRYPTED}"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], Awaitable[None]], help_: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help_, description=help_)
        command.add_argument("name", metavar="NAME", type=username_of, help="who you are")
        command.set_defaults(run=run)
        return command

    command = add("register", accounts.register, "make an account and log in")
    command.add_argument("--invitation", metavar="CODE", help="the code that the server's operator has given you")
    command = add("login", accounts.log_in, "log in on this machine")
    command.add_argument("--keep", action="store_true", help="keep an account that is to be deleted")
    command.add_argument(
        "--external-token", action="store_true", help="log in with a token of the server's external issuer"
    )
    command.add_argument("--invitation", metavar="CODE", help="with such a token, if you are new at the server")
    command = add("reset", accounts.reset, "ask for a mail that lets you set another password")
    command.add_argument("--token", metavar="TOKEN", help="the end of the link in the mail: set the password here")
    command = add("export", accounts.export, "write all data of your account into a file")
    command.add_argument("file", metavar="FILE", help="a new file, which will be gzip of lines of JSON")
    command = add("delete-account", accounts.delete_account, "delete your account, after some days to think it over")
    command.add_argument("--messages", action="store_true", help="delete your messages for everyone, too")
    add("list", talks.list_conversations, "show your conversations, latest first")
    add("sessions", accounts.list_sessions, "show where you are logged in")
    command = add("password", accounts.change_password, "change your password")
    command.add_argument("--others", action="store_true", help="log your other devices out")
    command = add("logout", accounts.log_out, "log out on this machine")
    where = command.add_mutually_exclusive_group()
    where.add_argument("--others", action="store_true", help="log your other devices out instead")
    where.add_argument("--everywhere", action="store_true", help="log all your devices out, this one too")
    for command in (
        add(
            "chat", talks.chat, f"write and read live, with {', '.join(each.usage for each in COMMANDS)}; Ctrl-D leaves"
        ),
        add("history", talks.history, "show the last messages"),
    ):
        command.add_argument(
            "others", metavar="WITH", type=username_of, nargs="+", help="the other user; several names make a group"
        )
        command.add_argument("--group", metavar="TITLE", help="the group of that title; made if it does not exist")
        if command.get_default("run") is talks.history:
            command.add_argument("--limit", type=_limit, default=50, help="how many, at most 100 (default 50)")
    return parser


def _limit(text: str) -> int:
    limit = int(text)
    if not 1 <= limit <= 100:
        raise argparse.ArgumentTypeError("must be from 1 to 100")
    return limit
