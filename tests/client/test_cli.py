from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import cbor2
import httpx
import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from client.__main__ import main
from client.chat import COMMANDS
from client.cli.console import CommandFailure
from client.cli.environment import DEFAULT_HTTP_URL, DEFAULT_SOCKET_URL
from client.cli.failures import report
from client.cli.parser import make_parser
from client.errors import ConnectionLost, Unreachable
from client.http import HttpClient
from client.login import LoginFile
from client.terminal import read_lines
from client.unlock import NOT_ENCRYPTED
from protocol.codes import CloseCode
from protocol.frames import Frame, Hello, Message, Presence, Request, Send, Tombstone, Typing
from tests.client.client_world import (
    CREDENTIALS,
    DEVICE,
    GATEWAY,
    GROUP,
    ME,
    OTHER,
    TALK,
    ClientWorld,
    Link,
    answer,
    close,
    refusal,
    refuse,
)
from tests.sentences import fault_of
from tests.waiting import let_pass, wait_until

Respond = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with a password in the environment who is not logged in, and whose client lacks the library: it does not
    encrypt."""
    monkeypatch.setattr("client.e2ee.is_available", lambda: False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("ALO_PASSWORD", "long enough")
    monkeypatch.setattr("client.cli.passwords.getpass", lambda _: "a typed token")
    monkeypatch.setenv("ALO_SOCKET_URL", GATEWAY)
    return tmp_path


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[Respond], None]:
    """Puts a function in the place of the HTTP server."""

    def install(respond: Respond) -> None:
        monkeypatch.setattr("client.cli.logins.HttpClient", partial(HttpClient, transport=httpx.MockTransport(respond)))

    return install


def save_login() -> None:
    """ann logged in here a moment ago."""
    LoginFile(DEFAULT_HTTP_URL, "ann").save(replace(CREDENTIALS, renewed=time.time()))


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """The only line on stderr."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("client: ")
    assert captured.err.count("\n") == 1
    return captured.err.strip()


def no_server(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("all attempts failed")


REFUSALS = [
    (["login", "ann"], refusal(403, "account_closed"), "login ann --keep"),
    (["reset", "ann", "--token", "x"], refusal(404, "unknown_reset"), "reset ann"),
    (["reset", "ann", "--token", "x"], refusal(410, "reset_expired"), "too old"),
    (["register", "ann"], refusal(409, "username_taken"), "the name ann is taken"),
    (["register", "ann"], refusal(403, "registration_closed"), "takes no new users"),
    (["register", "ann"], refusal(403, "invitation_required"), "register ann --invitation CODE"),
    (["register", "ann", "--invitation", "x"], refusal(403, "invitation_void"), "ask its operator for another"),
    (["login", "ann", "--external-token"], refusal(401, "invalid_external_token"), "the token: because"),
    (["login", "ann", "--external-token"], refusal(409, "external_login_not_offered"), "log in with your password"),
    (["register", "ann"], refusal(400, "invalid_body"), "does not accept that: because"),
    (["login", "ann"], refusal(401, "wrong_credentials"), "wrong password, or there is no user called ann"),
    (["login", "ann"], refusal(500, "internal"), "500 internal"),
    (["login", "ann"], httpx.Response(502, content=b"\x1b[2J"), "does not answer"),
]
LOGGED_IN_REFUSALS = [
    (["chat", "ann", "bob"], refusal(404, "unknown_user"), "there is no user called bob"),
    (["history", "ann", "bob"], refusal(404, "unknown_user"), "there is no user called bob"),
    (["list", "ann"], refusal(401, "unauthenticated"), "no longer valid; log in again"),
    (["list", "ann"], refusal(503, "unavailable", 100), "503 unavailable"),
]


@pytest.mark.parametrize(("arguments", "response", "said"), [*REFUSALS, *LOGGED_IN_REFUSALS])
def test_a_refusal_is_one_line_and_status_1(
    serve: Callable[[Respond], None],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    response: httpx.Response,
    said: str,
) -> None:
    if (arguments, response, said) in LOGGED_IN_REFUSALS:
        save_login()
    serve(lambda _: response)
    assert main(arguments) == 1
    assert said in sentence(capsys)


def test_a_login_shows_the_one_that_it_replaces_to_the_same_server_alone(
    serve: Callable[[Respond], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guesses of strangers do not hold up a device that the server knows."""
    shown: list[str | None] = []

    def respond(request: httpx.Request) -> httpx.Response:
        shown.append(request.headers.get("authorization"))
        return answer({"user": ME, "device": DEVICE, "token": f"token {len(shown)}"}, 201)

    serve(respond)
    for name in ("ann", "ann", "bob", "ann"):
        assert main(["login", name]) == 0
    monkeypatch.setenv("ALO_HTTP_URL", "http://another.test")
    assert main(["login", "ann"]) == 0
    assert shown == [None, "Bearer token 1", None, "Bearer token 2", None]


def test_an_account_is_exported_and_deleted_with_the_password_shown_once_more(
    serve: Callable[[Respond], None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url.path}")
        export = {"export": TALK, "asked": 1, "ready": 1, "expires": 2, "parts": 2, "size_bytes": 4}
        match request.url.path.split("/")[2:]:
            case ["confirmations"]:
                return answer({"expires": 1})
            case ["exports"]:
                return answer({"exports": [export]})
            case ["exports", _, "parts", part]:
                return httpx.Response(200, content=f"p{part}".encode())
            case _:
                return answer({"due": 1_767_225_600_000_000})

    save_login()
    serve(respond)
    file = tmp_path / "ann.jsonl.gz"
    assert main(["export", "ann", str(file)]) == 0
    assert file.read_bytes() == b"p1p2"
    assert main(["delete-account", "ann", "--messages"]) == 0
    assert asked[0] == asked[-2] == "POST /v1/confirmations"
    assert asked[-1] == "PUT /v1/account/deletion"
    assert "login ann --keep" in capsys.readouterr().out


def test_a_user_without_the_password_asks_for_a_mail_and_sets_another(
    serve: Callable[[Respond], None], capsys: pytest.CaptureFixture[str]
) -> None:
    serve(lambda request: answer({"lifetime_s": 3600}, 202) if request.method == "POST" else httpx.Response(204))
    assert main(["reset", "ann"]) == 0
    assert main(["reset", "ann", "--token", "abc"]) == 0
    assert "the password is set" in capsys.readouterr().out


@pytest.mark.parametrize("invitation", [None, "alo_code"])
def test_the_code_of_an_invitation_is_sent_with_the_name(
    serve: Callable[[Respond], None], invitation: str | None
) -> None:
    sent: list[Any] = []

    def respond(request: httpx.Request) -> httpx.Response:
        sent.append((request.url.path, cbor2.loads(request.content)))
        if request.url.path == "/v1/users":
            return answer({"user": ME, "username": "ann"}, 201)
        return answer({"user": ME, "device": DEVICE, "token": "token"}, 201)

    serve(respond)
    assert main(["register", "ann", *([] if invitation is None else ["--invitation", invitation])]) == 0
    (path, body), (then, _) = sent
    assert (path, body.get("invitation"), then) == ("/v1/users", invitation, "/v1/devices")


@pytest.mark.parametrize("in_environment", [False, True])
def test_a_token_of_the_external_issuer_logs_in_under_the_name_that_the_server_tells(
    serve: Callable[[Respond], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    in_environment: bool,
) -> None:
    sent: list[Any] = []

    def respond(request: httpx.Request) -> httpx.Response:
        sent.append((request.url.path, cbor2.loads(request.content)))
        return answer({"user": ME, "username": "ben", "device": DEVICE, "token": "token"}, 201)

    serve(respond)
    if in_environment:
        monkeypatch.setenv("ALO_EXTERNAL_TOKEN", "a token")
    assert main(["login", "ann", "--external-token", "--invitation", "x"]) == 0
    [(path, body)] = sent
    assert (path, body["username"], body["invitation"], "password" in body) == ("/v1/devices", "ann", "x", False)
    assert body["external_token"] == ("a token" if in_environment else "a typed token")
    assert "logged in as ben" in capsys.readouterr().out
    kept = LoginFile(DEFAULT_HTTP_URL, "ben").load()
    assert kept is not None
    assert (kept.token, LoginFile(DEFAULT_HTTP_URL, "ann").load()) == ("token", None)


@pytest.mark.parametrize(("token", "shown"), [("", {"password": "long enough"}), ("a", {"external_token": "a"})])
def test_a_device_is_confirmed_by_the_token_in_the_environment_or_the_password(
    serve: Callable[[Respond], None], monkeypatch: pytest.MonkeyPatch, token: str, shown: dict[str, str]
) -> None:
    save_login()
    monkeypatch.setenv("ALO_EXTERNAL_TOKEN", token)
    sent: list[Any] = []

    def respond(request: httpx.Request) -> httpx.Response:
        sent.append((request.url.path, cbor2.loads(request.content)))
        return answer({"due": 0} if request.method == "PUT" else {"expires": 0})

    serve(respond)
    assert main(["delete-account", "ann"]) == 0
    assert sent[0] == ("/v1/confirmations", shown)


@pytest.mark.parametrize("command", [["register", "ann"], ["login", "ann"], ["list", "ann"], ["chat", "ann", "bob"]])
def test_no_server_is_one_line_and_status_1(
    serve: Callable[[Respond], None], capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    save_login()
    serve(no_server)
    assert main(command) == 1
    assert "the server does not answer" in sentence(capsys)


@pytest.mark.parametrize("command", [["list", "ann"], ["chat", "ann", "bob"], ["history", "ann", "bob"]])
def test_a_user_without_a_login_is_told_how_to_log_in(
    serve: Callable[[Respond], None], capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    serve(no_server)
    assert main(command) == 1
    assert "python -m client login ann" in sentence(capsys)


def test_a_folder_that_cannot_be_written_is_one_line(
    serve: Callable[[Respond], None], capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    (home / "alo-shield").write_text("a file where the folder should be")
    serve(lambda _: answer({"user": ME, "device": DEVICE, "token": "token"}, 201))
    assert main(["login", "ann"]) == 1
    assert "alo-shield" in sentence(capsys)


def test_no_password_and_no_terminal_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_terminal(_: str) -> str:
        raise EOFError

    monkeypatch.delenv("ALO_PASSWORD")
    monkeypatch.setattr("client.cli.passwords.getpass", no_terminal)
    assert main(["login", "ann"]) == 1
    assert "ALO_PASSWORD" in sentence(capsys)


BAD_NAMES = ["", "a b", "a@b", "-ann", "a" * 33, "ann\n", "\x1b[2J", "\udcff"]
BAD_PASSWORDS = ["", "short", "p" * 257, "long enough \udcff"]


@pytest.mark.parametrize("command", ["register", "login"])
@pytest.mark.parametrize(
    ("name", "password"), [*((name, "long enough") for name in BAD_NAMES), *(("ann", word) for word in BAD_PASSWORDS)]
)
def test_an_invalid_name_or_password_is_refused_before_it_is_typed_twice_or_sent(
    serve: Callable[[Respond], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    name: str,
    password: str,
) -> None:
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return password

    def respond(_: httpx.Request) -> httpx.Response:
        raise AssertionError("it was sent")

    serve(respond)
    monkeypatch.delenv("ALO_PASSWORD")
    monkeypatch.setattr("client.cli.passwords.getpass", ask)
    assert main([command, "--", name]) == 1
    said = sentence(capsys)
    assert fault_of(said) is None, said
    assert " must " in said, "the error says which values are allowed"
    assert len(asked) == (name == "ann")


def test_a_password_of_the_environment_is_checked_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALO_PASSWORD", "short")
    assert main(["register", "ann"]) == 1
    assert sentence(capsys) == "client: a password must have 8 to 256 characters; this one has 5"


def test_help_names_the_variables_that_count(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    said = re.sub(" +", " ", capsys.readouterr().out)
    assert f"ALO_HTTP_URL the server for accounts, lists and history (default {DEFAULT_HTTP_URL})" in said
    assert f"ALO_SOCKET_URL the gateway for live chats (default {DEFAULT_SOCKET_URL})" in said
    assert "SSL_CERT_FILE" in said


def test_passwords_that_differ_register_no_user(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ALO_PASSWORD")
    answers = iter(["one password", "another password"])
    monkeypatch.setattr("client.cli.passwords.getpass", lambda _: next(answers))
    assert main(["register", "ann"]) == 1
    assert "differ" in sentence(capsys)


@pytest.mark.parametrize("arguments", [[], ["chat", "ann"], ["dance"], ["history", "ann", "bob", "--limit", "101"]])
def test_a_command_line_that_is_not_understood_is_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_ctrl_c_is_no_failure_to_talk_about(
    serve: Callable[[Respond], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    serve(interrupt)
    assert main(["login", "ann"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_registering_also_logs_in(serve: Callable[[Respond], None], capsys: pytest.CaptureFixture[str]) -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/users":
            return answer({"user": ME, "username": "ann"}, 201)
        return answer({"user": ME, "device": DEVICE, "token": "token"}, 201)

    serve(respond)
    assert main(["register", "ann"]) == 0
    kept = LoginFile(DEFAULT_HTTP_URL, "ann").load()
    assert kept is not None
    assert replace(kept, renewed=0.0) == CREDENTIALS
    assert 0 <= time.time() - kept.renewed < 60
    assert capsys.readouterr().err == ""


class DevicesServer:
    """A server whose device has to show the password again, if `wants_password`."""

    def __init__(self) -> None:
        self.wants_password = False
        self.asked: list[tuple[str, str, Any]] = []

    def respond(self, request: httpx.Request) -> httpx.Response:
        body = cbor2.loads(request.content) if request.content else None
        self.asked.append((request.method, request.url.path, body))
        if request.url.path == "/v1/confirmations":
            self.wants_password = False
            return answer({"expires": 1})
        if request.method == "GET":
            device = {"device": DEVICE, "name": "Phone\x1b", "created": 0, "last_used": 60_000_000, "expires": 1}
            return answer({"devices": [{**device, "client": "app/1", "is_this": True}], "cursor": None})
        if self.wants_password:
            return refusal(403, "confirmation_required")
        return httpx.Response(204)


@pytest.fixture
def of_devices(serve: Callable[[Respond], None]) -> DevicesServer:
    server = DevicesServer()
    serve(server.respond)
    save_login()
    return server


@pytest.mark.parametrize(
    ("options", "path", "stays"),
    [
        ([], "/v1/devices/this", False),
        (["--others"], "/v1/devices/others", True),
        (["--everywhere"], "/v1/devices", False),
    ],
)
def test_logging_out_forgets_the_login_that_has_ended(
    of_devices: DevicesServer, options: list[str], path: str, stays: bool
) -> None:
    assert main(["logout", "ann", *options]) == 0
    assert of_devices.asked == [("DELETE", path, None)]
    assert (LoginFile(DEFAULT_HTTP_URL, "ann").load() is not None) == stays


def test_logging_out_everywhere_shows_the_password_if_the_server_wants_it(
    of_devices: DevicesServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALO_PASSWORD", "correct horse")
    of_devices.wants_password = True
    assert main(["logout", "ann", "--everywhere"]) == 0
    assert of_devices.asked == [
        ("DELETE", "/v1/devices", None),
        ("POST", "/v1/confirmations", {"password": "correct horse"}),
        ("DELETE", "/v1/devices", None),
    ]


def test_sessions_shows_each_device_fit_for_a_terminal(
    of_devices: DevicesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sessions", "ann"]) == 0
    shown = capsys.readouterr().out
    assert "(app/1): logged in 1970-01-01" in shown
    assert shown.endswith(", this device\n")
    assert "\x1b" not in shown


@pytest.mark.parametrize("others", [False, True])
def test_password_sends_the_old_and_the_new_one(
    of_devices: DevicesServer, monkeypatch: pytest.MonkeyPatch, others: bool
) -> None:
    monkeypatch.setenv("ALO_PASSWORD", "correct horse")
    monkeypatch.setenv("ALO_NEW_PASSWORD", "nine brown foxes")
    assert main(["password", "ann", *(["--others"] if others else [])]) == 0
    body = {"old_password": "correct horse", "new_password": "nine brown foxes", "ends_other_sessions": others}
    assert of_devices.asked == [("PUT", "/v1/password", body)]


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The write end of a pipe that `chat` reads."""
    reading, writing = os.pipe()
    monkeypatch.setattr("client.chat.read_lines", partial(read_lines, reading))
    yield writing
    os.close(reading)
    with suppress(OSError):
        os.close(writing)


@pytest.fixture
def logged_in(world: ClientWorld, monkeypatch: pytest.MonkeyPatch) -> ClientWorld:
    """A server that knows ann, who is logged in here, and bob."""
    save_login()
    monkeypatch.setattr("client.cli.logins.HttpClient", lambda url, token=None: world.http().with_token(token or ""))
    return world


async def run(*arguments: str) -> None:
    """A command, under this test's `trio.run`."""
    await run_for(60, *arguments)


async def run_for(seconds: float, *arguments: str) -> None:
    parsed = make_parser().parse_args(arguments)
    with trio.fail_after(seconds):
        await parsed.run(parsed)


async def test_a_pipe_is_sent_to_its_end_in_order_and_acknowledged(
    logged_in: ClientWorld, stdin: int, capsys: pytest.CaptureFixture[str]
) -> None:
    os.write(stdin, "one\n\ntwo\nthrée".encode())
    os.close(stdin)
    await run("chat", "ann", "bob")
    assert [held.content for held in logged_in.history[TALK]] == [b"one", b"two", "thrée".encode()]
    assert {frame.content_type for frame in logged_in.requests if isinstance(frame, Send)} == {"text/plain"}
    assert capsys.readouterr().err.count(NOT_ENCRYPTED) == 1


async def test_help_and_unknown_commands_are_not_sent_as_messages(
    logged_in: ClientWorld, stdin: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a terminal, where a chat goes on after a failure."""
    monkeypatch.setattr("client.chat.os.isatty", lambda _: True)
    os.write(
        stdin, b"/help\n/halp\n/ help\n  /HELP\n/edit\n/delete it\n/quit now\n//help\n ///\nnot/help\n/quit\nnever\n"
    )
    with pytest.raises(CommandFailure, match="not everything"):
        await run("chat", "ann", "bob")
    assert [held.content for held in logged_in.history[TALK]] == [b"/help", b" //", b"not/help"]
    output = capsys.readouterr()
    for command in COMMANDS:
        assert f"-- {command.usage} " in output.out
        assert command.help in output.out
    assert "-- //TEXT" in output.out
    assert "there is no command /halp; /help lists them, and a message that begins so is typed //halp" in output.err
    assert "/delete takes no arguments" in output.err


async def test_a_pipe_ends_with_a_command_that_there_is_not(logged_in: ClientWorld, stdin: int) -> None:
    os.write(stdin, b"one\n/usr/bin/true\ntwo\n")
    with pytest.raises(CommandFailure, match="not everything"):
        await run("chat", "ann", "bob")
    assert [held.content for held in logged_in.history[TALK]] == [b"one"]


async def test_a_lost_connection_is_told_and_comes_back_soon_after_the_server(
    logged_in: ClientWorld, stdin: int, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """The chat connects soon after any outage of the server, because a person waits."""
    show, shown = trio.open_memory_channel[str](10)
    monkeypatch.setattr("client.cli.talks.show", show.send_nowait)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_for, 10_000, "chat", "ann", "bob")
        await wait_until(lambda: logged_in.links and logged_in.link.is_welcomed, "welcomed")
        for away_s in (0, 1, 60, 3600):
            if away_s:
                logged_in.down.add(GATEWAY)
            await logged_in.link.websocket.aclose(1012)
            with trio.fail_after(0.1):
                assert await shown.receive() == "-- the connection is lost; reconnecting"
            await let_pass(away_s, why="the server is away")
            assert shown.statistics().current_buffer_used == 0 or not away_s
            logged_in.down.clear()
            with trio.fail_after(4):
                assert await shown.receive() == "-- connected again"
        nursery.cancel_scope.cancel()


async def test_a_user_who_leaves_sees_no_lost_connection(
    logged_in: ClientWorld, stdin: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr("client.cli.talks.show", shown.append)
    os.write(stdin, b"/quit\n")
    await run("chat", "ann", "bob")
    assert shown == []


async def test_quit_leaves_what_comes_after_it(logged_in: ClientWorld, stdin: int) -> None:
    os.write(stdin, b"one\n/quit\nnever\n")
    await run("chat", "ann", "bob")
    assert [held.content for held in logged_in.history[TALK]] == [b"one"]


async def test_an_arriving_message_is_shown_with_name_and_time_and_harmless(
    logged_in: ClientWorld, stdin: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    show, shown = trio.open_memory_channel[str](10)
    monkeypatch.setattr("client.cli.talks.show", show.send_nowait)
    logged_in.store(TALK, content=b"before \x1b[2J")
    logged_in.store(GROUP, content=b"elsewhere")
    is_sent = trio.Event()

    def note(link: Link, frame: Request) -> list[Frame]:
        is_sent.set()
        return logged_in.reply(link, frame)

    logged_in.faults[Send].append(note)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, "chat", "ann", "bob")
        assert (await shown.receive()).endswith(" bob: before \\x1b[2J")
        os.write(stdin, b"mine\n")
        await is_sent.wait()
        await logged_in.post(GROUP, b"elsewhere")
        await logged_in.post(TALK, b"hello\nann")
        assert (await shown.receive()).endswith(" bob: hello\\nann")
        os.close(stdin)
    assert shown.statistics().current_buffer_used == 0


async def test_a_chat_whose_messages_disappear_says_so(
    logged_in: ClientWorld, stdin: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr("client.cli.talks.show", shown.append)
    seen = logged_in.conversation
    os.close(stdin)
    for lifetime_s, lines in ((None, []), (90_000, ["-- messages disappear after 1 day, 1:00:00"])):
        monkeypatch.setattr(logged_in, "conversation", lambda id_, s=lifetime_s: replace(seen(id_), lifetime_s=s))
        await run("chat", "ann", "bob")
        assert shown == lines


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        ("/accept", f"POST /v1/conversations/{UUID(bytes=TALK)}/accept"),
        ("/decline", f"POST /v1/conversations/{UUID(bytes=TALK)}/decline"),
        ("/block", f"PUT /v1/contacts/{UUID(bytes=OTHER)}"),
    ],
)
async def test_a_request_is_shown_as_one_and_answered_by_a_command(
    logged_in: ClientWorld, stdin: int, monkeypatch: pytest.MonkeyPatch, command: str, asked: str
) -> None:
    """The chat goes on if the user accepts the request, and ends if the user declines it or blocks the sender."""
    shown: list[str] = []
    monkeypatch.setattr("client.cli.talks.show", shown.append)
    seen = logged_in.conversation
    monkeypatch.setattr(logged_in, "conversation", lambda id_: replace(seen(id_), is_request=True, asked_by=OTHER))
    os.write(stdin, f"{command}\nhello\n".encode())
    os.close(stdin)
    await run("chat", "ann", "bob")
    assert shown[0] == "-- bob asks to write to you: answer, or /accept, /decline or /block"
    assert logged_in.asked[-1] == asked
    assert [each.content for each in logged_in.history[TALK] if isinstance(each, Message)] == (
        [b"hello"] if command == "/accept" else []
    )
    await run("list", "ann")
    assert shown[-1].startswith("request: bob")


async def test_presence_and_typing_are_shown_once(
    logged_in: ClientWorld, stdin: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    show, shown = trio.open_memory_channel[str](10)
    monkeypatch.setattr("client.cli.talks.show", show.send_nowait)
    logged_in.online.add(OTHER)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, "chat", "ann", "bob")
        assert await shown.receive() == "-- bob is online"
        await logged_in.push(Presence(OTHER, True), Typing(TALK, OTHER, True), Typing(TALK, OTHER, True))
        assert await shown.receive() == "-- bob is typing"
        await logged_in.push(Typing(TALK, OTHER, False), Presence(OTHER, False))
        assert await shown.receive() == "-- bob is offline"
        os.close(stdin)
    assert shown.statistics().current_buffer_used == 0


async def test_the_last_own_message_is_edited_and_deleted(
    logged_in: ClientWorld, stdin: int, capsys: pytest.CaptureFixture[str]
) -> None:
    logged_in.store(TALK, content=b"theirs")
    os.write(stdin, b"frist\n/edit first\nsecond\n/delete\n/edit the first\n/delete\n/delete\n")
    os.close(stdin)
    with pytest.raises(CommandFailure, match="not everything"):
        await run("chat", "ann", "bob")
    assert [type(held) for held in logged_in.history[TALK]] == [Message, Tombstone, Tombstone]
    output = capsys.readouterr()
    shown = [line.split(" ann: ")[1] for line in output.out.splitlines() if " ann: " in line]
    assert shown[:2] == ["first (edited)", "(deleted)"]
    assert "you have no message here to edit or delete" in output.err


async def test_an_edit_without_text_changes_nothing(
    logged_in: ClientWorld, stdin: int, capsys: pytest.CaptureFixture[str]
) -> None:
    os.write(stdin, b"first\n/edit \nsecond\n")
    os.close(stdin)
    with pytest.raises(CommandFailure, match="not everything"):
        await run("chat", "ann", "bob")
    [held] = logged_in.history[TALK]
    assert isinstance(held, Message)
    assert (held.content, held.revision) == (b"first", None)
    assert "TEXT must come after /edit" in capsys.readouterr().err


async def test_a_line_that_is_refused_ends_a_pipe_with_a_failure(
    logged_in: ClientWorld, stdin: int, capsys: pytest.CaptureFixture[str]
) -> None:
    logged_in.faults[Send].extend([None, refuse("not_a_participant")])
    os.write(stdin, b"one\ntwo\nthree\n")
    os.close(stdin)
    with pytest.raises(CommandFailure, match="not everything"):
        await run("chat", "ann", "bob")
    assert [held.content for held in logged_in.history[TALK]] == [b"one"]
    assert "not done: refused (not_a_participant): two" in capsys.readouterr().err


def test_a_login_that_the_gateway_refuses_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    inner = BaseExceptionGroup("", [ConnectionLost(4501, "revoked")])
    assert report(BaseExceptionGroup("", [inner]), "ann") == 1
    assert "log in again" in sentence(capsys)


async def test_a_chat_whose_login_is_revoked_ends(logged_in: ClientWorld, stdin: int) -> None:
    logged_in.faults[Hello].append(close(CloseCode.UNAUTHENTICATED))
    with pytest.raises(ConnectionLost):
        await run("chat", "ann", "bob")


async def test_no_gateway_is_said_after_a_while(logged_in: ClientWorld, stdin: int, autojump_clock: MockClock) -> None:
    logged_in.down.add(GATEWAY)
    with pytest.raises(Unreachable, match=f"no gateway at {GATEWAY}; the last attempt: {GATEWAY}: nobody answers"):
        await run("chat", "ann", "bob")


async def test_history_and_list_show_what_there_is(logged_in: ClientWorld, capsys: pytest.CaptureFixture[str]) -> None:
    logged_in.store(TALK, content=b"first")
    logged_in.history[GROUP] = []
    await run("list", "ann")
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("bob: ")
    assert first.endswith(" bob: first")
    assert second.startswith("bob: no message since")
    logged_in.store(TALK, content=b"second")
    logged_in.change(TALK, 1, b"edited")
    logged_in.change(TALK, 2, None)
    await run("history", "ann", "bob")
    [first, second] = capsys.readouterr().out.splitlines()
    assert first.endswith(" bob: edited (edited)")
    assert second.endswith(" bob: (deleted)")
    with pytest.raises(CommandFailure, match="no group of that title"):
        await run("history", "ann", "bob", "--group", "Us")
