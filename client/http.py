"""Accounts, lists and history over HTTP, with CBOR bodies (`docs/http.md`)."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self, TypeAlias, TypeVar
from urllib.parse import quote
from uuid import UUID

import cbor2
import httpx
import msgspec
import trio
from msgspec import Struct

from client import VERSION
from client.bodies import (
    ConversationBody,
    ConversationPageBody,
    DeletionBody,
    DeviceBody,
    DevicePageBody,
    ExportFile,
    ExportsBody,
    GroupStateBody,
    HeldKeysBody,
    LoggedInBody,
    MessagePageBody,
    ParticipantPageBody,
    ProblemBody,
    TokenBody,
)
from client.errors import HttpRefused, Unreachable
from client.reasons import reason_of
from client.tls import trusting_context
from protocol.frames import Conversation, HeldKeys, Message, OneTimeKey, Participant, Tombstone

TIMEOUT_S: Final = 15.0
"""For one call, from connecting to the last byte. Logging in is meant to be slow (Argon2) and may queue."""

MAX_RESPONSE_BYTES: Final = 32 * 1024 * 1024
"""100 of the largest messages have 6.6 MiB, 100 conversations of 1,000 participants about 12; no page is larger."""

STALE: Final = frozenset({"unauthenticated", "token_expired", "token_renewed", "token_reused"})
"""Codes of refusals after which a program reads its stored login again, and tries once more with another token."""

Token: TypeAlias = str | Callable[[], str | None] | None
"""A token, or a function that gives the present one before each request: another program may renew it."""

NO_AVATAR: Final = bytes(16)
"""It removes an avatar."""

_CBOR: Final = "application/cbor"
_T = TypeVar("_T", bound=Struct)


class Credentials(Struct, frozen=True):
    """The result of logging in: user and device (16 bytes each), and the token of the device.

    :ivar renewed: when the token came, in seconds since 1970; 0: not known.
    """

    user: bytes
    device: bytes
    token: str
    renewed: float = 0.0


class User(Struct, frozen=True):
    """A user: 16 bytes, and the name."""

    user: bytes
    username: str


class ConversationPage(Struct, frozen=True):
    """Some conversations, latest message first; `cursor` gets the next ones, None at the end."""

    conversations: list[Conversation]
    cursor: str | None


class MessagePage(Struct, frozen=True):
    """Some messages; `cursor` gets the next ones in the same direction, None at the end."""

    messages: list[Message | Tombstone]
    cursor: str | None


class HttpClient:
    """Sends requests to one server; an async context manager that owns the connections.

    Every call raises `HttpRefused` if the server answers with an error, `Unreachable` if no readable answer came within
    `timeout_s` seconds. A call that is cancelled may or may not have taken effect; the client stays usable.

    :param base_url: like `http://127.0.0.1:8000`.
    :param token: of the device that asks; not needed for `register`, nor for `log_in` (see there).
    :param transport: replaces the network, for tests.
    :raises InvalidAuthorities: if SSL_CERT_FILE or SSL_CERT_DIR cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: Token = None,
        timeout_s: float = TIMEOUT_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        # This client has a deadline for the whole call; httpx has only one for each phase. No proxies and no .netrc
        # from the environment: the token goes to the caller's address and nowhere else.
        context = _context(base_url)
        self._httpx = httpx.AsyncClient(timeout=None, trust_env=False, transport=transport, verify=context)  # noqa: S113

    async def __aenter__(self) -> Self:
        await self._httpx.__aenter__()
        return self

    async def __aexit__(
        self, type_: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._httpx.__aexit__(type_, value, traceback)

    def with_token(self, token: Token) -> HttpClient:
        """The same connections with another device's token. Lives as long as this one; not to be entered itself."""
        other = object.__new__(HttpClient)
        other.__dict__.update(self.__dict__, _token=token)
        return other

    async def register(self, username: str, password: str, *, invitation: str | None = None) -> User:
        """
        :param invitation: its code, if the server wants one (`invitation_required`).
        :raises HttpRefused: `username_taken`, `registration_closed`, `invitation_void`, among others.
        """
        body = {"username": username, "password": password}
        if invitation is not None:
            body["invitation"] = invitation
        return await self._ask(User, "POST", "/v1/users", body)

    async def log_in(
        self, username: str, password: str, device_name: str, *, keeps_account: bool = False
    ) -> Credentials:
        """Make a new device. This client does not use its token: see `with_token`.

        If this client has a token of another device of the user, also one that has expired, the server counts wrong
        passwords for that device alone: after guesses of strangers the login is not refused for a time.

        :param keeps_account: an account that is to be deleted is not.
        :raises HttpRefused: `wrong_credentials`, `account_closed`, among others.
        """
        body: dict[str, Any] = {"username": username, "password": password, "name": device_name}
        body["client"] = f"alo-python/{VERSION}"
        if keeps_account:
            body["keeps_account"] = True
        made = await self._ask(Credentials, "POST", "/v1/devices", body)
        return msgspec.structs.replace(made, renewed=time.time())

    async def log_in_externally(
        self,
        external_token: str,
        username: str,
        device_name: str,
        *,
        invitation: str | None = None,
        keeps_account: bool = False,
    ) -> tuple[str, Credentials]:
        """Make a new device by a token of the server's external issuer; returns the username of its user, too.

        :param username: for a user who is new at this server; a user who is known keeps the one that there is.
        :raises HttpRefused: `invalid_external_token`, `external_login_not_offered`, `username_taken`, among others.
        """
        body: dict[str, Any] = {"external_token": external_token, "username": username, "name": device_name}
        body["client"] = f"alo-python/{VERSION}"
        if invitation is not None:
            body["invitation"] = invitation
        if keeps_account:
            body["keeps_account"] = True
        made = await self._ask(LoggedInBody, "POST", "/v1/devices", body)
        return made.username, Credentials(made.user, made.device, made.token, time.time())

    async def confirm(self, password: str | None = None, *, external_token: str | None = None) -> None:
        """Show the password once more, or a token of a new login at the external issuer, for what needs that.

        :raises HttpRefused: `wrong_credentials`, `reauthentication_required`, among others.
        """
        shown = {"password": password} if external_token is None else {"external_token": external_token}
        await self._send("POST", "/v1/confirmations", shown)

    async def delete_account(self, *, deletes_messages: bool = False) -> int:
        """Have the account deleted, and log out all devices; returns when, in microseconds since 1970.

        :raises HttpRefused: `confirmation_required`, among others.
        """
        body = {"deletes_messages": deletes_messages}
        return (await self._ask(DeletionBody, "PUT", "/v1/account/deletion", body)).due

    async def ask_export(self) -> list[ExportFile]:
        """Have an export made; returns those that there are, the newest first.

        :raises HttpRefused: `too_many_exports`, `confirmation_required`, `export_not_offered`, among others.
        """
        return (await self._ask(ExportsBody, "POST", "/v1/exports")).exports

    async def exports(self) -> list[ExportFile]:
        """The exports that are being made or can be fetched, the newest first."""
        return (await self._ask(ExportsBody, "GET", "/v1/exports")).exports

    async def export_part(self, export: bytes, part: int) -> bytes:
        """A part of an export, from 1: all of them, one after the other, are one gzip file.

        :raises HttpRefused: `unknown_export`, `confirmation_required`, among others.
        """
        _, data = await self._send("GET", f"/v1/exports/{UUID(bytes=export)}/parts/{part}")
        return data

    async def ask_reset(self, username: str) -> None:
        """Ask for a mail with a link that sets another password; the answer does not tell whether one is sent."""
        await self._send("POST", "/v1/password-resets", {"username": username})

    async def reset_password(self, token: str, new_password: str) -> None:
        """Set another password by the token of a mail; all devices are logged out.

        :raises HttpRefused: `unknown_reset`, `reset_expired`, among others.
        """
        await self._send("PUT", "/v1/password-resets", {"token": token, "new_password": new_password})

    async def renew(self, credentials: Credentials) -> Credentials:
        """A new token for the device with these credentials. Store it before you use it, and then use no other:
        `client.renewal.renew` does so.

        :raises HttpRefused: `token_renewed` if the new token was used already, among others.
        """
        made = await self.with_token(credentials.token)._ask(TokenBody, "POST", "/v1/tokens")
        return msgspec.structs.replace(credentials, token=made.token, renewed=time.time())

    async def devices(self) -> list[DeviceBody]:
        """All devices of the user that are logged in, the newest first; one call for each 100."""
        found: list[DeviceBody] = []
        cursor = None
        while True:
            page = await self._ask(DevicePageBody, "GET", "/v1/devices", query={"limit": 100, "cursor": cursor})
            found += page.devices
            cursor = page.cursor
            if cursor is None:
                return found

    async def key_status(self) -> HeldKeys:
        """What the server holds of this device's keys."""
        return (await self._ask(HeldKeysBody, "GET", "/v1/keys")).as_frame()

    async def put_keys(
        self,
        identity: bytes,
        one_time_keys: list[OneTimeKey],
        last_resort_keys: list[OneTimeKey],
        *,
        is_anew: bool,
        key_history: bytes,
    ) -> HeldKeys:
        """Publish identity and keys of this device, as `client.requests.Requests.put_keys` does.

        :raises HttpRefused: `key_history_foreign`, among others.
        """
        body = {
            "identity": identity,
            "one_time_keys": [_key_body(each) for each in one_time_keys],
            "last_resort_keys": [_key_body(each) for each in last_resort_keys],
            "is_anew": is_anew,
            "key_history": key_history,
        }
        return (await self._ask(HeldKeysBody, "PUT", "/v1/keys", body)).as_frame()

    async def group_state(self, conversation: bytes) -> GroupStateBody:
        """The state after the last control message. A control message that builds on it gives `control_seq` as
        `follows`.

        :raises HttpRefused: `not_found`, among others.
        """
        return await self._ask(GroupStateBody, "GET", f"/v1/conversations/{UUID(bytes=conversation)}/state")

    async def put_group_state(self, conversation: bytes, control_seq: int, state: bytes) -> None:
        """Put the state after the last control message, `control_seq`.

        :raises HttpRefused: `control_conflict` if another one has followed, among others.
        """
        body = {"control_seq": control_seq, "state": state}
        await self._send("PUT", f"/v1/conversations/{UUID(bytes=conversation)}/state", body)

    async def log_out(self) -> None:
        """Revoke this device."""
        await self._send("DELETE", "/v1/devices/this")

    async def log_out_others(self) -> None:
        """Revoke the user's other devices.

        :raises HttpRefused: `confirmation_required`, among others: see `confirm`.
        """
        await self._send("DELETE", "/v1/devices/others")

    async def log_out_everywhere(self) -> None:
        """Revoke all devices of the user, this one too.

        :raises HttpRefused: `confirmation_required`, among others: see `confirm`.
        """
        await self._send("DELETE", "/v1/devices")

    async def change_password(self, old: str, new: str, *, ends_others: bool) -> None:
        """
        :param ends_others: revoke the user's other devices, too.
        :raises HttpRefused: `wrong_credentials`, among others.
        """
        body = {"old_password": old, "new_password": new, "ends_other_sessions": ends_others}
        await self._send("PUT", "/v1/password", body)

    async def user(self, username: str) -> User:
        """:raises HttpRefused: `unknown_user`, among others."""
        return await self._ask(User, "GET", f"/v1/users/{quote(username, safe='')}")

    async def create_direct(self, user: bytes) -> Conversation:
        """The conversation with one other user; the server makes it if it does not exist."""
        body = {"kind": "direct", "participants": [user]}
        return (await self._ask(ConversationBody, "POST", "/v1/conversations", body)).as_frame()

    async def create_self(self) -> Conversation:
        """The conversation of the user's own devices; the server makes it if it does not exist."""
        return (await self._ask(ConversationBody, "POST", "/v1/conversations", {"kind": "self"})).as_frame()

    async def create_group(self, name: str, users: list[bytes]) -> Conversation:
        """A new conversation with 1 to 999 others; each call makes a further one."""
        body = {"kind": "group", "name": name, "participants": users}
        return (await self._ask(ConversationBody, "POST", "/v1/conversations", body)).as_frame()

    async def conversations(
        self, limit: int = 50, cursor: str | None = None, *, requests: bool = False
    ) -> ConversationPage:
        """Your conversations, latest message first, at most 100 at once.

        :param requests: true for the requests, instead of all other conversations.
        """
        query = {"limit": limit, "cursor": cursor, "requests": "true" if requests else None}
        page = await self._ask(ConversationPageBody, "GET", "/v1/conversations", query=query)
        return ConversationPage([conversation.as_frame() for conversation in page.conversations], page.cursor)

    async def participants(self, conversation: bytes) -> list[Participant]:
        """All participants of a conversation, by their ids; one call for each 100."""
        path = f"/v1/conversations/{UUID(bytes=conversation)}/participants"
        found: list[Participant] = []
        cursor = None
        while True:
            page = await self._ask(ParticipantPageBody, "GET", path, query={"limit": 100, "cursor": cursor})
            found += [each.as_frame() for each in page.participants]
            cursor = page.cursor
            if cursor is None:
                return found

    async def set_avatar(self, attachment: bytes | None, *, group: bytes | None = None) -> None:
        """Set your avatar, or that of a group whose administrator you are.

        :param attachment: an upload of yours that was declared as an avatar, and is complete; None: no avatar.
        :raises HttpRefused: `unknown_attachment`, `not_an_administrator`, among others.
        """
        path = "/v1/profile" if group is None else f"/v1/conversations/{UUID(bytes=group)}"
        await self._send("PATCH", path, {"avatar": attachment or NO_AVATAR})

    async def add_contact(self, user: bytes) -> None:
        """Make a user a contact, which accepts their requests."""
        await self._send("PUT", f"/v1/contacts/{UUID(bytes=user)}", {})

    async def block(self, user: bytes) -> None:
        """Block a user, who is not told."""
        await self._send("PUT", f"/v1/contacts/{UUID(bytes=user)}", {"is_blocked": True})

    async def accept(self, conversation: bytes) -> None:
        """Accept a request."""
        await self._send("POST", f"/v1/conversations/{UUID(bytes=conversation)}/accept")

    async def decline(self, conversation: bytes) -> None:
        """Decline a request.

        :raises HttpRefused: `not_a_request`, among others.
        """
        await self._send("POST", f"/v1/conversations/{UUID(bytes=conversation)}/decline")

    async def history(self, conversation: bytes, *, limit: int = 50, cursor: str | None = None) -> MessagePage:
        """Messages as they are now, newest first, at most 100 at once.

        :param cursor: of the page before.
        """
        path = f"/v1/conversations/{UUID(bytes=conversation)}/messages"
        page = await self._ask(MessagePageBody, "GET", path, query={"limit": limit, "cursor": cursor})
        return MessagePage([message.as_frame() for message in page.messages], page.cursor)

    async def _ask(
        self,
        answer: type[_T],
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        query: dict[str, str | int | None] | None = None,
    ) -> _T:
        return _read(answer, *await self._send(method, path, body, query))

    async def _send(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        query: dict[str, str | int | None] | None = None,
    ) -> tuple[int, bytes]:
        token = self._present_token()
        try:
            return await self._send_with(token, method, path, body, query)
        except HttpRefused as refused:
            # Another program of this device may have renewed the token since it was read.
            again = self._present_token()
            if refused.code not in STALE or again == token:
                raise
        return await self._send_with(again, method, path, body, query)

    def _present_token(self) -> str | None:
        return self._token() if callable(self._token) else self._token

    async def _send_with(
        self,
        token: str | None,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        query: dict[str, str | int | None] | None,
    ) -> tuple[int, bytes]:
        status, data = await self._exchange(
            method,
            self._base_url + path,
            params={name: value for name, value in (query or {}).items() if value is not None},
            headers=_headers(token, has_body=body is not None),
            content=None if body is None else cbor2.dumps(body),
        )
        if 200 <= status < 300:
            return status, data
        problem = _read(ProblemBody, status, data)
        raise HttpRefused(status, problem.code, problem.detail, problem.retry_after_ms)

    async def _exchange(self, method: str, url: str, **request: Any) -> tuple[int, bytes]:
        try:
            with trio.fail_after(self._timeout_s):
                async with self._httpx.stream(method, url, **request) as response:
                    data = bytearray()
                    async for chunk in response.aiter_bytes():
                        # Bytes beyond the bound are read and dropped: breaking off leaves generators of httpx half-way.
                        if len(data) <= MAX_RESPONSE_BYTES:
                            data += chunk
            if len(data) > MAX_RESPONSE_BYTES:
                raise Unreachable(f"{url} answered with more than {MAX_RESPONSE_BYTES} bytes")
            return response.status_code, bytes(data)
        except trio.TooSlowError:
            raise Unreachable(f"{url} did not answer within {self._timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
            raise Unreachable(f"{url}: {reason_of(error)}") from error


def _key_body(key: OneTimeKey) -> dict[str, Any]:
    kind, number, data = key
    return {"kind": kind, "number": number, "key": data}


def _headers(token: str | None, *, has_body: bool) -> dict[str, str]:
    headers = {"Accept": _CBOR}
    if has_body:
        headers["Content-Type"] = _CBOR
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return headers


def _context(base_url: str) -> ssl.SSLContext:
    # A connection without TLS needs no authorities, and reading them would take 15 ms.
    is_plain = base_url.lower().startswith("http:")
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if is_plain else trusting_context()


def _read(type_: type[_T], status: int, data: bytes) -> _T:
    try:
        return msgspec.convert(cbor2.loads(data), type_)
    except (cbor2.CBORDecodeError, msgspec.ValidationError) as error:
        raise Unreachable(f"the answer (status {status}) is not of this interface") from error
