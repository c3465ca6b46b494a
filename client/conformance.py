"""The adapter of this client for the conformance kit: `python -m protocol.conformance -- python -m client.conformance`.

It reads commands from its standard input and has a `Session` do them, one JSON object a line in both directions
(`protocol/conformance/README.md`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import trio

from client.connection import NAME
from client.control_chain import ControlChain
from client.e2ee import is_available
from client.errors import ClientFailure, ConnectionLost, RequestRefused
from client.follower import Follower
from client.http import Credentials
from client.known_devices import KnownDevices, all_devices
from client.mailbox import Mailbox
from client.nursery import open_service_nursery
from client.renewal import MemoryLogin
from client.session import Session
from client.signs import Sign, Signs
from protocol.frames import Message, Ping, Tombstone, Typing

if TYPE_CHECKING:
    from client.conformance_keys import AdapterKeys

CAN: Final = [
    "edit",
    "delete",
    "mark_read",
    "devices",
    "unread_count",
    "name",
    "participants",
    "devices_version",
    "retry_after",
    "envelopes",
    "is_request",
    "lifetime_s",
    "typing",
    "watch",
    "control",
    *(["encrypts"] if is_available() else []),
]

NO_REPLY: Final = "no_reply"
"""In place of the server's code, if the server has not answered in time."""

EVERYWHERE: Final = b""
"""In place of a conversation: presence is that of a user, wherever the user takes part."""

Fields: TypeAlias = dict[str, Any]


class TestedClient:
    """A client that can be stopped and started again with what it holds.

    :ivar ended: the close code after which the session does not connect again; None while it goes on.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.ended: int | None = None
        self._nursery = nursery
        self._session: Session | None = None
        self._scope = trio.CancelScope()
        self._stopped = trio.Event()
        self._mailbox = Mailbox(b"")
        self._login = MemoryLogin(Credentials(b"", b"", ""))
        self._devices = KnownDevices()
        self._signs: dict[bytes, Signs] = {}
        self._keys: AdapterKeys | None = None

    @property
    def session(self) -> Session:
        if self._session is None:
            raise ValueError("the client is not running: send `start` first")
        return self._session

    async def start(
        self, urls: list[str], token: str, user: str, device: str, *, keep: bool, encrypts: bool = False
    ) -> Fields:
        """Begin to connect; `keep`: with what the client held when it was stopped."""
        credentials = Credentials(bytes.fromhex(user), bytes.fromhex(device), token)
        if not keep:
            self.close()
            self._keys = _open_keys(credentials) if encrypts else None
            keep_entries = self._keys.keyring.keep if self._keys else lambda _: None
            self._mailbox, self._devices = Mailbox(credentials.user, keep_entries), KnownDevices()
            self._login = MemoryLogin(credentials)
        self.ended, self._scope, self._stopped = None, trio.CancelScope(), trio.Event()
        self._session = Session(
            urls,
            credentials,
            self._mailbox,
            self._login,
            self._take_sign,
            on_link=self._take_link,
            on_keys_low=self._keys.note_low_keys if self._keys else None,
        )
        if self._keys:
            self._keys.use(self._session)
        self._nursery.start_soon(self._run, self._session)
        return {}

    async def _run(self, session: Session) -> None:
        try:
            with self._scope:
                async with open_service_nursery() as nursery:
                    nursery.start_soon(self._end_typing, session.follow())
                    if self._keys:
                        nursery.start_soon(self._keys.run)
                    await session.run()
        except ConnectionLost as lost:
            self.ended = lost.close_code
        finally:
            self._stopped.set()

    async def _end_typing(self, arrivals: Follower) -> None:
        async for entry in arrivals:
            self._signs_of(entry.conversation).end_typing(entry.sender)

    def _signs_of(self, conversation: bytes) -> Signs:
        return self._signs.setdefault(conversation, Signs(conversation))

    def _take_sign(self, sign: Sign) -> None:
        of = sign.conversation if isinstance(sign, Typing) else EVERYWHERE
        self._signs_of(of).take(sign, trio.current_time())

    def _take_link(self, is_online: bool) -> None:
        if not is_online:
            self._signs.clear()

    def close(self) -> None:
        """Forget the keys."""
        if self._keys:
            self._keys.close()
            self._keys = None

    async def stop(self) -> Fields:
        """Say goodbye, and keep what the client holds."""
        if self._session is not None:
            await self._session.say_goodbye()
            self._scope.cancel()
            await self._stopped.wait()
            self._session = None
        return {}

    async def send(
        self, conversation: str, content: str, *, is_quiet: bool = False, reply_to: int | None = None
    ) -> Fields:
        if self._keys:
            return {"seq": (await self._keys.send(bytes.fromhex(conversation), bytes.fromhex(content), reply_to)).seq}
        sent = await self.session.send(
            bytes.fromhex(conversation),
            bytes.fromhex(content),
            content_type="text/plain",
            reply_to=reply_to,
            is_quiet=is_quiet,
        )
        return {"seq": sent.seq}

    async def control(self, conversation: str, content: str) -> Fields:
        chain = ControlChain(self.session, bytes.fromhex(conversation))
        return {"seq": (await chain.send(lambda _: bytes.fromhex(content))).seq}

    async def edit(self, conversation: str, seq: int, content: str) -> Fields:
        message = self._entry(conversation, seq)
        if not isinstance(message, Message):
            raise ValueError(f"message {seq} is deleted")
        return {"revision": (await self.session.edit(message, bytes.fromhex(content))).revision}

    async def delete(self, conversation: str, seq: int, *, for_everyone: bool) -> Fields:
        await self.session.delete(self._entry(conversation, seq), for_everyone=for_everyone)
        return {}

    async def mark_read(self, conversation: str, seq: int) -> Fields:
        self.session.mark_read(bytes.fromhex(conversation), seq)
        return {}

    async def devices(self, users: list[str]) -> Fields:
        """Ask for the devices of users; tells them all, and what has changed since the last time."""
        asked = [bytes.fromhex(user) for user in users]
        listed = await all_devices(await self.session.wait_online(), asked)
        changes = self._devices.take(asked, listed)
        return {
            "devices": [[each.device.hex(), each.identity.hex()] for each in listed],
            "changes": [[change.event, change.device.device.hex()] for change in changes],
        }

    async def watch(self, users: list[str]) -> Fields:
        self.session.watch([bytes.fromhex(user) for user in users])
        return {}

    async def ping(self) -> Fields:
        """A request and its reply: the client has read everything that the server had sent before."""
        await (await self.session.wait_online()).request(Ping(0))
        return {}

    async def state(self) -> Fields:
        """What the client shows."""
        told = {id_.hex(): self._conversation(id_) for id_ in self._mailbox.conversations()}
        online = [user.hex() for user in self._signs_of(EVERYWHERE).online]
        return {"state": {"conversations": told, "online": online, "ended": self.ended}}

    def _conversation(self, id_: bytes) -> Fields:
        head = self._mailbox.head(id_)
        assert head is not None
        return {
            "kind": head.kind,
            "name": head.name,
            "first_seq": head.first_seq,
            "last_seq": head.last_seq,
            "unread_count": head.unread_count,
            "devices_version": head.devices_version or 0,
            "control_seq": head.control_seq or 0,
            "lifetime_s": head.lifetime_s,
            "is_request": bool(head.is_request),
            "typing": [user.hex() for user in self._signs_of(id_).typing(trio.current_time())],
            "participants": [each.user.hex() for each in self._mailbox.participants(id_)],
            "messages": [_shown(entry) for entry in self._mailbox.messages(id_)],
        }

    def _entry(self, conversation: str, seq: int) -> Message | Tombstone:
        for entry in self._mailbox.messages(bytes.fromhex(conversation)):
            if entry.seq == seq:
                return entry
        raise ValueError(f"the client does not hold message {seq}")


def _shown(entry: Message | Tombstone) -> Fields:
    if isinstance(entry, Tombstone):
        return {"seq": entry.seq, "content": None}
    shown: Fields = {"seq": entry.seq, "content": entry.content.hex()}
    if entry.has_envelopes:
        shown["envelope"] = None if entry.envelope is None else entry.envelope.hex()
    return shown


def _open_keys(credentials: Credentials) -> AdapterKeys:
    # Only now: the library need not be installed.
    from client.conformance_keys import AdapterKeys

    return AdapterKeys(credentials.user, credentials.device)


async def serve(stream: trio.abc.Stream) -> None:
    """Do the commands that come from a stream, each in a task of its own, until it ends."""
    lock = trio.Lock()

    async def do(line: bytes) -> None:
        answer = json.dumps(await _answer(json.loads(line), commands)) + "\n"
        async with lock:
            await stream.send_all(answer.encode())

    async with trio.open_nursery() as nursery:
        tested = TestedClient(nursery)
        commands: dict[str, Callable[..., Awaitable[Fields]]] = {
            "about": _about,
            "start": tested.start,
            "stop": tested.stop,
            "send": tested.send,
            "control": tested.control,
            "edit": tested.edit,
            "delete": tested.delete,
            "mark_read": tested.mark_read,
            "devices": tested.devices,
            "watch": tested.watch,
            "ping": tested.ping,
            "state": tested.state,
        }
        data = b""
        try:
            while received := await stream.receive_some():
                *lines, data = (data + received).split(b"\n")
                for line in lines:
                    nursery.start_soon(do, line)
                    # Commands begin in their order: Trio runs tasks of one step in any order.
                    await trio.lowlevel.checkpoint()
        finally:
            tested.close()
            nursery.cancel_scope.cancel()


async def _about() -> Fields:
    return {"name": NAME, "can": CAN}


async def _answer(command: Fields, commands: dict[str, Callable[..., Awaitable[Fields]]]) -> Fields:
    """The answer to a command: its fields, the code of the server's refusal, or what is wrong with the command."""
    number, name = command.pop("id"), command.pop("do")
    if name not in commands:
        return {"id": number, "error": f"no command is called '{name}'"}
    try:
        return {"id": number, **await commands[name](**command)}
    except RequestRefused as refused:
        return {"id": number, "refused": refused.code}
    except ClientFailure:
        return {"id": number, "refused": NO_REPLY}
    except (TypeError, ValueError) as error:
        return {"id": number, "error": str(error)}


def main() -> None:
    stream = trio.StapledStream(trio.lowlevel.FdStream(os.dup(1)), trio.lowlevel.FdStream(os.dup(0)))
    trio.run(serve, stream)


if __name__ == "__main__":
    main()
