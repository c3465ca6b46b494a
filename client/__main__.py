"""The command line: `python -m client --help`, which also lists the variables of the environment.

A login is kept in `$XDG_CONFIG_HOME/alo-shield/SERVER/NAME.json`, with mode 600, and shown to that server alone.

Messages are encrypted end to end, with keys in a file beside the login (`client.unlock`), unless the library for that
is missing: then each chat says so.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from getpass import getpass
from pathlib import Path
from typing import Final

import trio

from client import directory
from client.chat import COMMANDS, Answer, run_chat
from client.commands import NotPossible
from client.e2ee import KEYS
from client.e2ee.keyring import Keyring
from client.e2ee.vault import VaultFailure, WrongPassphrase
from client.errors import (
    ClientFailure,
    ConnectionLost,
    HttpRefused,
    InvalidAuthorities,
    LoginBusy,
    LoginReplaced,
    NoReply,
    OutcomeUnknown,
    Unreachable,
)
from client.http import Credentials, HttpClient, User
from client.lines import line_of, names_of
from client.login import LoginFile
from client.reasons import reason_of
from client.renewal import RENEW_S, renew
from client.rules import fault_of_password, fault_of_title, fault_of_username, title_of, username_of
from client.terminal import local_time, printable
from client.unlock import (
    NOT_ENCRYPTED,
    HistoryReader,
    forget_keys,
    is_possible,
    open_keyring,
    publish,
    sending_folder,
)
from client.upload_log import UploadLog
from protocol.codes import CloseCode
from protocol.errors import ProtocolError
from protocol.frames import Conversation, Message

EXPORT_POLL_S: Final = 2.0
"""From one look whether an export is ready to the next."""

DEFAULT_HTTP_URL: Final = "http://127.0.0.1:8000"
DEFAULT_SOCKET_URL: Final = "ws://127.0.0.1:8001"

_EXTERNAL_TOKEN: Final = "ALO_EXTERNAL_TOKEN"  # noqa: S105  (a name)

VARIABLES: Final = {
    "ALO_HTTP_URL": f"the server for accounts, lists and history (default {DEFAULT_HTTP_URL})",
    "ALO_SOCKET_URL": f"the gateway for live chats (default {DEFAULT_SOCKET_URL}); several, separated by commas, are"
    " tried in turn",
    "ALO_PASSWORD": "the password; without it you are asked",
    "ALO_PASSPHRASE": "the passphrase of the keys on this machine, if it is another one than the password",
    "ALO_NEW_PASSWORD": "the new password, for `password`; without it you are asked",
    _EXTERNAL_TOKEN: "a token of the external issuer, for `login --external-token`; without it you are asked. It is"
    " also shown where the server wants the password again",
    "SSL_CERT_FILE": "certificate authorities in PEM, in place of the system's, for addresses with https: and wss:",
}
"""Variable of the environment -> its use."""


class CommandFailure(Exception):
    """A failure, in one line for the user."""


def http_url() -> str:
    """The server for HTTP."""
    return os.environ.get("ALO_HTTP_URL") or DEFAULT_HTTP_URL


def socket_urls() -> list[str]:
    """The gateways."""
    urls = os.environ.get("ALO_SOCKET_URL") or DEFAULT_SOCKET_URL
    found = [url.strip() for url in urls.split(",") if url.strip()]
    if not found:
        raise CommandFailure("ALO_SOCKET_URL must be addresses of gateways, separated by commas; it has none")
    return found


def warn(line: str) -> None:
    """One line on stderr."""
    print(f"client: {line}", file=sys.stderr, flush=True)


def show(line: str) -> None:
    """One line on stdout, at once."""
    print(line, flush=True)


def read_password(*, twice: bool, called: str = "Password", variable: str = "ALO_PASSWORD") -> str:
    """Read a password from the environment or the terminal, without echo. Refuses one that breaks the server's rules.

    :raises CommandFailure: says why.
    """
    password = os.environ.get(variable)
    if password is not None:
        check(fault_of_password(password))
        return password
    try:
        password = getpass(f"{called}: ")
        check(fault_of_password(password))
        if twice and getpass(f"{called} again: ") != password:
            raise CommandFailure("the passwords differ")
    except (EOFError, OSError):
        raise CommandFailure(f"no password: there is no terminal to ask on; set {variable}") from None
    return password


def read_external_token() -> str:
    """Read a token of the external issuer from the environment or the terminal, without echo: other users of the
    machine see the arguments of commands.

    :raises CommandFailure: says why.
    """
    try:
        token = os.environ.get(_EXTERNAL_TOKEN) or getpass("Token of the external issuer: ")
    except (EOFError, OSError):
        raise CommandFailure(f"no token: there is no terminal to ask on; set {_EXTERNAL_TOKEN}") from None
    check(None if token.strip().isascii() else "a token has letters, digits and the signs - _ . alone")
    return token.strip()


def read_passphrase(name: str) -> str:
    """The passphrase of the keys on this machine, from the environment or the terminal, without echo.

    :raises CommandFailure: says why.
    """
    for variable in ("ALO_PASSPHRASE", "ALO_PASSWORD"):
        if (found := os.environ.get(variable)) is not None:
            return found
    try:
        return getpass(f"Password of {printable(name)}, which opens the keys on this machine: ")
    except (EOFError, OSError):
        raise CommandFailure("no passphrase: there is no terminal to ask on; set ALO_PASSPHRASE") from None


def open_keys(name: str) -> Keyring:
    """The keys of a login, which are made at first.

    :raises CommandFailure: if there is no login, or no passphrase.
    """
    return open_keyring(LoginFile(http_url(), name), load_login(name), read_passphrase(name))


async def make_keys(http: HttpClient, stored: LoginFile, credentials: Credentials, passphrase: str) -> None:
    """Make the keys of a new device, and publish them: from now on others encrypt for it."""
    if not is_possible():
        return
    keyring = open_keyring(stored, credentials, os.environ.get("ALO_PASSPHRASE") or passphrase)
    try:
        await publish(http.with_token(credentials.token), keyring)
    except (HttpRefused, Unreachable) as error:
        warn(f"others cannot encrypt for this device before it chats: {printable(str(error))}")


def read_proof() -> dict[str, str]:
    """What `HttpClient.confirm` shows: the token in ALO_EXTERNAL_TOKEN, if there is one, or the password.

    :raises CommandFailure: says why.
    """
    if os.environ.get(_EXTERNAL_TOKEN):
        return {"external_token": read_external_token()}
    return {"password": read_password(twice=False)}


def check(fault: str | None) -> None:
    """
    :raises CommandFailure: if there is a fault.
    """
    if fault is not None:
        raise CommandFailure(fault)


async def register(arguments: argparse.Namespace) -> None:
    """`register NAME [--invitation CODE]`"""
    check(fault_of_username(arguments.name))
    password = read_password(twice=True)
    async with HttpClient(http_url()) as http:
        await http.register(arguments.name, password, invitation=arguments.invitation)
        await _log_in(http, arguments.name, password)
    show(f"registered and logged in as {arguments.name}")


async def log_in(arguments: argparse.Namespace) -> None:
    """`login NAME [--external-token]`"""
    check(fault_of_username(arguments.name))
    if arguments.external_token:
        await log_in_externally(arguments)
        return
    password = read_password(twice=False)
    async with HttpClient(http_url()) as http:
        await _log_in(http, arguments.name, password, keeps_account=arguments.keep)
    show(f"logged in as {arguments.name}")


async def log_in_externally(arguments: argparse.Namespace) -> None:
    """`login NAME --external-token [--invitation CODE]`"""
    token = read_external_token()
    async with HttpClient(http_url()) as http:
        username, credentials = await http.log_in_externally(
            token, arguments.name, _device_name(), invitation=arguments.invitation, keeps_account=arguments.keep
        )
    stored = LoginFile(http_url(), username_of(username))
    async with stored.locked():
        stored.save(credentials)
    if is_possible():
        async with HttpClient(http_url()) as http:
            await make_keys(http, stored, credentials, read_passphrase(username))
    show(f"logged in as {printable(username)}")


async def _log_in(http: HttpClient, username: str, password: str, *, keeps_account: bool = False) -> None:
    stored = LoginFile(http_url(), username)
    async with stored.locked():
        if (kept := stored.load()) is not None:
            # Wrong passwords of strangers do not count for a device that the server knows, even if its token has
            # expired.
            http = http.with_token(kept.token)
        credentials = await http.log_in(username, password, _device_name(), keeps_account=keeps_account)
        stored.save(credentials)
    await make_keys(http, stored, credentials, password)


def _device_name() -> str:
    return platform.node() or "terminal"


async def delete_account(arguments: argparse.Namespace) -> None:
    """`delete-account NAME [--messages]`"""
    load_login(arguments.name)
    proof = read_proof()
    async with open_http(arguments.name) as http:
        await http.confirm(**proof)
        due = await http.delete_account(deletes_messages=arguments.messages)
    show(f"logged out everywhere; the account is deleted at {local_time(due)}")
    show(f"until then you keep it with: python -m client login {arguments.name} --keep")


async def export(arguments: argparse.Namespace) -> None:
    """`export NAME FILE`"""
    load_login(arguments.name)
    proof = read_proof()
    async with open_http(arguments.name) as http:
        await http.confirm(**proof)
        found = await http.exports() or await http.ask_export()
        while (parts := found[0].parts) is None:
            await trio.sleep(EXPORT_POLL_S)
            found = await http.exports()
            if not found:
                raise CommandFailure("the server could not make the export; ask again")
        with Path(arguments.file).open("xb") as file:  # noqa: ASYNC230  (one user, one file)
            for part in range(1, parts + 1):
                file.write(await http.export_part(found[0].export, part))
    show(f"all data of {arguments.name} are in {arguments.file}")


async def reset(arguments: argparse.Namespace) -> None:
    """`reset NAME [--token TOKEN]`"""
    async with HttpClient(http_url()) as http:
        if arguments.token is None:
            await http.ask_reset(arguments.name)
            show("if the account has a verified address, a mail with a link is on its way")
            show(f"open the link, or: python -m client reset {arguments.name} --token (the end of the link)")
            return
        await http.reset_password(arguments.token, read_password(twice=True))
    show(f"the password is set; log in with: python -m client login {arguments.name}")


async def change_password(arguments: argparse.Namespace) -> None:
    """`password NAME [--others]`"""
    load_login(arguments.name)
    old = read_password(twice=False)
    new = read_password(twice=True, called="New password", variable="ALO_NEW_PASSWORD")
    async with open_http(arguments.name) as http:
        await http.change_password(old, new, ends_others=arguments.others)
    if is_possible() and "ALO_PASSPHRASE" not in os.environ:
        credentials = load_login(arguments.name)
        try:
            open_keyring(LoginFile(http_url(), arguments.name), credentials, old).set_passphrase(new)
        except WrongPassphrase:
            warn("the keys on this machine keep their passphrase: it was another one than the password")
    show("the password is changed" + (", and your other devices are logged out" if arguments.others else ""))


async def list_sessions(arguments: argparse.Namespace) -> None:
    """`sessions NAME`"""
    async with open_http(arguments.name) as http:
        for device in await http.devices():
            client = f" ({printable(device.client)})" if device.client else ""
            this = ", this device" if device.is_this else ""
            since, used = local_time(device.created), local_time(device.last_used)
            show(f"{printable(device.name)}{client}: logged in {since}, last used {used}{this}")


async def log_out(arguments: argparse.Namespace) -> None:
    """`logout NAME [--others | --everywhere]`"""
    async with open_http(arguments.name) as http:
        if arguments.others:
            await _confirmed(http, http.log_out_others)
        elif arguments.everywhere:
            await _confirmed(http, http.log_out_everywhere)
        else:
            await http.log_out()
    if arguments.others:
        show(f"{arguments.name} is logged out everywhere else")
        return
    stored = LoginFile(http_url(), arguments.name)
    async with stored.locked():
        stored.forget()
        forget_keys(stored)
    show(f"{arguments.name} is logged out" + (" everywhere" if arguments.everywhere else ""))


async def _confirmed(http: HttpClient, act: Callable[[], Awaitable[None]]) -> None:
    """Do it; show the password first if the server wants it."""
    try:
        await act()
    except HttpRefused as refused:
        if refused.code != "confirmation_required":
            raise
        await http.confirm(**read_proof())
        await act()


async def chat(arguments: argparse.Namespace) -> None:
    """`chat NAME WITH... [--group TITLE]`"""
    if arguments.group is not None:
        check(fault_of_title(arguments.group))
        arguments.group = title_of(arguments.group)
    credentials = load_login(arguments.name)
    keyring = open_keys(arguments.name) if is_possible() else None
    async with open_http(arguments.name) as http:
        others = await find_users(http, arguments.others)
        names = [arguments.name, *arguments.others]
        conversation = await directory.find_or_create(
            http, credentials.user, [other.user for other in others], names, arguments.group
        )
        called = names_of(await directory.everybody_in(http, conversation))
        if os.isatty(0):
            title = directory.title_of(conversation, credentials.user)
            show(f"{title}: type to send; /help lists the commands; /quit or Ctrl-D leaves")
    if keyring is None:
        warn(NOT_ENCRYPTED)
    stored = LoginFile(http_url(), arguments.name)

    async def decide(answer: Answer) -> None:
        async with HttpClient(http_url(), token=stored.token) as http:
            await _decide(http, credentials.user, conversation, answer)

    async def set_avatar(attachment: bytes | None, group: bytes | None) -> None:
        async with HttpClient(http_url(), token=stored.token) as http:
            await http.set_avatar(attachment, group=group)

    uploads = UploadLog(stored.path.with_suffix(".uploads"))
    if not await run_chat(
        socket_urls(),
        credentials,
        conversation,
        called,
        show,
        warn,
        stored,
        decide,
        set_avatar,
        uploads,
        keyring,
        sending_folder(stored),
    ):
        raise CommandFailure("not everything was done")


async def _decide(http: HttpClient, me: bytes, conversation: Conversation, answer: Answer) -> None:
    if answer == "accept":
        await http.accept(conversation.conversation)
    elif answer == "decline":
        await http.decline(conversation.conversation)
    else:
        others = [person.user for person in conversation.participants or () if person.user != me]
        asks = conversation.asked_by or (others[0] if conversation.kind == "direct" else None)
        if asks is None:
            raise NotPossible(
                "there is no request here, and a group cannot be blocked: leave it, or block its participants"
            )
        await http.block(asks)


async def history(arguments: argparse.Namespace) -> None:
    """`history NAME WITH... [--group TITLE] [--limit N]`"""
    credentials = load_login(arguments.name)
    async with open_http(arguments.name) as http:
        others = [other.user for other in await find_users(http, arguments.others)]
        conversation = await directory.find(http, credentials.user, others, arguments.group)
        if conversation is None:
            what = "conversation" if arguments.group is None else f"group of that title ({arguments.group})"
            raise CommandFailure(f"{arguments.name} has no {what} with {' and '.join(arguments.others)}")
        page = await http.history(conversation.conversation, limit=arguments.limit)
        names = names_of(await directory.everybody_in(http, conversation))
        reader = history_reader(http, arguments.name)
        for entry in reversed(page.messages):
            if not isinstance(entry, Message):
                show(line_of(entry, names))
            elif entry.content_type != KEYS:
                show(line_of(entry, names, await reader.read(entry)))


async def list_conversations(arguments: argparse.Namespace) -> None:
    """`list NAME`"""
    credentials = load_login(arguments.name)
    async with (
        open_http(arguments.name) as http,
        aclosing(directory.list_all(http)) as conversations,
    ):
        reader = history_reader(http, arguments.name)
        async for conversation in conversations:
            show(await _summary(conversation, credentials, reader))


def history_reader(http: HttpClient, name: str) -> HistoryReader:
    """A reader of messages that opens the keys of a login when it needs them."""
    return HistoryReader(http, partial(open_keys, name) if is_possible() else None)


async def _summary(conversation: Conversation, credentials: Credentials, reader: HistoryReader) -> str:
    title = ("request: " if conversation.is_request else "") + directory.title_of(conversation, credentials.user)
    unread = f" [{conversation.unread_count} unread]" if conversation.unread_count else ""
    last = conversation.last_message
    if last is None:
        return f"{title}{unread}: no message since {local_time(conversation.created)}"
    reading = await reader.read(last) if isinstance(last, Message) else None
    return f"{title}{unread}: {line_of(last, names_of(conversation.participants or ()), reading)}"


def load_login(username: str) -> Credentials:
    """The login kept for that name at the server that the environment names."""
    credentials = LoginFile(http_url(), username).load()
    if credentials is None:
        raise CommandFailure(
            f"{username} is not logged in at {printable(http_url())}; do so with: python -m client login {username}"
        )
    return credentials


@asynccontextmanager
async def open_http(username: str) -> AsyncGenerator[HttpClient]:
    """The server, asked with the stored token of that name, which is renewed first if it is a day old."""
    credentials, stored = load_login(username), LoginFile(http_url(), username)
    async with HttpClient(http_url(), token=stored.token) as http:
        if time.time() - credentials.renewed >= RENEW_S:
            # The command goes on with the token that it has; if that is no longer good, its refusal says so.
            with suppress(HttpRefused, LoginBusy, LoginReplaced):
                await renew(stored, credentials, http.renew)
        yield http


async def find_users(http: HttpClient, usernames: Sequence[str]) -> list[User]:
    """The users of these names; the error names the first that does not exist."""
    users = []
    for username in usernames:
        check(fault_of_username(username))
        try:
            users.append(await http.user(username))
        except HttpRefused as refused:
            if refused.code != "unknown_user":
                raise
            raise CommandFailure(f"there is no user called {username}") from None
    return users


OF_CODES: Final = {
    "wrong_credentials": "wrong password, or there is no user called {username}",
    "account_closed": "the account is to be deleted; keep it with: python -m client login {username} --keep",
    "account_suspended": "the operator of the server has suspended {username}; ask them why",
    "unknown_reset": "the link is no longer valid; ask for another: python -m client reset {username}",
    "reset_expired": "the link is too old; ask for another: python -m client reset {username}",
    "registration_closed": "the server takes no new users",
    "invitation_required": "the server wants an invitation; give its code: python -m client register {username}"
    " --invitation CODE",
    "invitation_void": "the server does not accept that invitation, or no longer; ask its operator for another",
    "external_login_not_offered": "the server takes no tokens of another issuer; log in with your password",
    "no_password": "{username} has no password: set ALO_EXTERNAL_TOKEN to a token of the external issuer",
    "reauthentication_required": "log in at the external issuer again, and set ALO_EXTERNAL_TOKEN to the new token",
    "username_taken": "the name {username} is taken; choose another",
}
"""Code of a problem -> the line for the user."""


def sentence(error: ClientFailure, username: str) -> str:
    """One line for the user about a failure."""
    match error:
        case Unreachable():
            return f"the server does not answer: {printable(str(error))}"
        case HttpRefused(code=code) if code in OF_CODES:
            return OF_CODES[code].format(username=username)
        case HttpRefused(code="token_reused") | ConnectionLost(close_code=4506):
            return (
                f"the login of {username} was used by another program, perhaps by a thief, and has ended; log in again:"
                f" python -m client login {username}"
            )
        case HttpRefused(code="invalid_external_token"):
            return f"the server does not accept the token: {_why(error)}"
        case HttpRefused(status=401) | ConnectionLost(close_code=4501 | 4504 | 4505):
            return f"the login of {username} is no longer valid; log in again: python -m client login {username}"
        case HttpRefused(code="invalid_body" | "weak_password"):
            return f"the server does not accept that: {_why(error)}"
        case ConnectionLost():
            return f"the server has ended the connection: {_why(error)}"
        case NoReply() | OutcomeUnknown():
            return "no answer came in time; the server may have done it or not"
        case InvalidAuthorities() | LoginBusy() | LoginReplaced() | VaultFailure():
            return printable(str(error))
        case _:
            return f"the server refused: {printable(str(error))}"


def _why(error: HttpRefused | ConnectionLost) -> str:
    """The reason that the server gives, in a few words."""
    if isinstance(error, ConnectionLost):
        return printable(error.reason) or meaning_of(error.close_code)
    return printable(error.detail) or "it does not say why"


def meaning_of(close_code: int) -> str:
    """The meaning of a close code, in a few words."""
    try:
        return f"{CloseCode(close_code).info.meaning} ({close_code})"
    except ValueError:
        return f"it gives no reason ({close_code})"


def _limit(text: str) -> int:
    limit = int(text)
    if not 1 <= limit <= 100:
        raise argparse.ArgumentTypeError("must be from 1 to 100")
    return limit


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

    command = add("register", register, "make an account and log in")
    command.add_argument("--invitation", metavar="CODE", help="the code that the server's operator has given you")
    command = add("login", log_in, "log in on this machine")
    command.add_argument("--keep", action="store_true", help="keep an account that is to be deleted")
    command.add_argument(
        "--external-token", action="store_true", help="log in with a token of the server's external issuer"
    )
    command.add_argument("--invitation", metavar="CODE", help="with such a token, if you are new at the server")
    command = add("reset", reset, "ask for a mail that lets you set another password")
    command.add_argument("--token", metavar="TOKEN", help="the end of the link in the mail: set the password here")
    command = add("export", export, "write all data of your account into a file")
    command.add_argument("file", metavar="FILE", help="a new file, which will be gzip of lines of JSON")
    command = add("delete-account", delete_account, "delete your account, after some days to think it over")
    command.add_argument("--messages", action="store_true", help="delete your messages for everyone, too")
    add("list", list_conversations, "show your conversations, latest first")
    add("sessions", list_sessions, "show where you are logged in")
    command = add("password", change_password, "change your password")
    command.add_argument("--others", action="store_true", help="log your other devices out")
    command = add("logout", log_out, "log out on this machine")
    where = command.add_mutually_exclusive_group()
    where.add_argument("--others", action="store_true", help="log your other devices out instead")
    where.add_argument("--everywhere", action="store_true", help="log all your devices out, this one too")
    for command in (
        add("chat", chat, f"write and read live, with {', '.join(each.usage for each in COMMANDS)}; Ctrl-D leaves"),
        add("history", history, "show the last messages"),
    ):
        command.add_argument(
            "others", metavar="WITH", type=username_of, nargs="+", help="the other user; several names make a group"
        )
        command.add_argument("--group", metavar="TITLE", help="the group of that title; made if it does not exist")
        if command.get_default("run") is history:
            command.add_argument("--limit", type=_limit, default=50, help="how many, at most 100 (default 50)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0; 1 if it went wrong; 130 after Ctrl-C.

    :raises SystemExit: with status 2 if the command line is not understood.
    """
    parsed = make_parser().parse_args(arguments)
    try:
        trio.run(parsed.run, parsed)
    except (ClientFailure, CommandFailure, ProtocolError, OSError, KeyboardInterrupt, BaseExceptionGroup) as error:
        return report(error, parsed.name)
    return 0


def report(error: BaseException, username: str) -> int:
    """Report a failure in one line; returns the exit status. Raises an error again that is a bug."""
    match error:
        case BaseExceptionGroup():
            interrupts, others = error.split(KeyboardInterrupt)
            return report((interrupts or others or error).exceptions[0], username)
        case KeyboardInterrupt():
            if os.isatty(2):
                print(file=sys.stderr)  # the terminal has shown ^C; the next output begins a line
            return 130
        case ClientFailure():
            warn(sentence(error, username))
        case CommandFailure():
            warn(str(error))
        case BrokenPipeError():
            warn("the reader of the output has gone")
        case ProtocolError() | OSError():
            warn(f"it went wrong: {reason_of(error)}")
        case _:
            raise error
    return 1


if __name__ == "__main__":
    sys.exit(main())
