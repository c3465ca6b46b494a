"""Leaves of groups of MLS (RFC 9420) by two libraries, mls-rs and ts-mls, behind one interface."""

from __future__ import annotations

import itertools
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from subprocess import PIPE
from typing import Any, Final, NamedTuple, Protocol

import trio

CLIENT_JS: Final = Path(__file__).parents[2] / "client" / "js"
LABEL: Final = b"test"
SECRET_BYTES: Final = 32


@cache
def _mls_rs() -> Any:
    """The library, which `make mls` installs: tests are collected without it, too."""
    return import_module("mls_rs_uniffi")


class InvalidCommit(Exception):
    """A library refuses the bytes: the leaf stays in its epoch."""


class NewCommit(NamedTuple):
    """A commit that waits to be accepted; the Welcome is None if it adds no leaf."""

    commit: bytes
    welcome: bytes | None


class Leaf(Protocol):
    """A device in any number of groups.

    :ivar identity: in its credential.
    """

    identity: bytes

    async def key_package(self) -> bytes:
        """A new one; this leaf can join by it."""

    async def create(self, group: bytes) -> None:
        """Begin a group."""

    async def commit(self, group: bytes, add: Sequence[bytes] = (), remove: Leaf | None = None) -> NewCommit:
        """Make a commit, which changes nothing before `accept`. There must be no other one.

        :param add: key packages.
        """

    async def accept(self, group: bytes, commit: bytes) -> None:
        """Go on to the epoch of the own commit."""

    async def discard(self, group: bytes) -> None:
        """Forget the own commit."""

    async def process(self, group: bytes, commit: bytes) -> None:
        """Go on to the epoch of another leaf's commit; forgets the own one.

        :raises InvalidCommit: if it is none of this epoch; nothing changes.
        """

    async def join(self, group: bytes, welcome: bytes) -> None:
        """
        :raises InvalidCommit: if it is no Welcome for this leaf.
        """

    async def secret(self, group: bytes) -> bytes:
        """What all leaves of the epoch export."""


class MlsRsLeaf:
    """A leaf by mls-rs."""

    def __init__(self, identity: bytes) -> None:
        keys = _mls_rs().generate_signature_keypair(_mls_rs().CipherSuite.CURVE25519_AES128)
        self.identity = identity
        self.client = _mls_rs().Client(identity, keys, _mls_rs().client_config_default())
        self._groups: dict[bytes, Any] = {}

    async def key_package(self) -> bytes:
        return bytes(self.client.generate_key_package_message().to_bytes())

    async def create(self, group: bytes) -> None:
        self._keep(group, self.client.create_group(group))

    async def commit(self, group: bytes, add: Sequence[bytes] = (), remove: Leaf | None = None) -> NewCommit:
        held = self._groups[group]
        if add:
            made = held.add_members([_mls_rs().Message.from_bytes(each) for each in add])
        elif remove is not None:
            assert isinstance(remove, MlsRsLeaf), "the binding names a leaf by an object of its own"
            made = held.remove_members([remove.client.signing_identity()])
        else:
            made = held.commit()
        welcome = made.welcome_message
        return NewCommit(made.commit_message.to_bytes(), None if welcome is None else welcome.to_bytes())

    async def accept(self, group: bytes, commit: bytes) -> None:
        await self.process(group, commit)

    async def discard(self, group: bytes) -> None:
        # The binding cannot drop a commit; the group was stored before it was made.
        self._groups[group] = self.client.load_group(group)

    async def process(self, group: bytes, commit: bytes) -> None:
        held = self._groups[group]
        try:
            effect = held.process_incoming_message(_mls_rs().Message.from_bytes(commit))
        except _mls_rs().Error as error:
            raise InvalidCommit(str(error)) from None
        if not effect.is_commit():
            raise InvalidCommit("it is no commit")
        self._keep(group, held)

    async def join(self, group: bytes, welcome: bytes) -> None:
        try:
            joined = self.client.join_group(None, _mls_rs().Message.from_bytes(welcome))
        except _mls_rs().Error as error:
            raise InvalidCommit(str(error)) from None
        self._keep(group, joined.group)

    async def secret(self, group: bytes) -> bytes:
        return bytes(self._groups[group].export_secret(LABEL, b"", SECRET_BYTES))

    def _keep(self, group: bytes, held: Any) -> None:
        held.write_to_storage()
        self._groups[group] = held


class TsMlsProcess:
    """A process of Node that holds the leaves by ts-mls."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._numbers = itertools.count()
        self._sending = trio.Lock()
        self._answers: dict[int, dict[str, Any]] = {}
        self._answered = trio.lowlevel.ParkingLot()

    async def read(self) -> None:
        """Take the answers; ends with the process."""
        assert self._process.stdout is not None
        rest = b""
        async for data in self._process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                answer = json.loads(line)
                self._answers[answer["id"]] = answer
            self._answered.unpark_all()
        raise AssertionError("the process of ts-mls has ended")

    async def ask(self, op: str, leaf: bytes, **values: Any) -> dict[str, Any]:
        """
        :raises InvalidCommit: if ts-mls refuses what it was given.
        """
        number = next(self._numbers)
        assert self._process.stdin is not None
        command = {"id": number, "op": op, "leaf": leaf.hex(), **values}
        async with self._sending:
            await self._process.stdin.send_all(json.dumps(command).encode() + b"\n")
        while number not in self._answers:
            await self._answered.park()
        answer = self._answers.pop(number)
        if "error" in answer:
            raise InvalidCommit(answer["error"])
        return answer


class TsMlsLeaf:
    """A leaf by ts-mls."""

    def __init__(self, process: TsMlsProcess, identity: bytes) -> None:
        self.identity = identity
        self._process = process
        self._is_open = False

    async def key_package(self) -> bytes:
        return _bytes((await self._ask("key_package"))["key_package"])

    async def create(self, group: bytes) -> None:
        await self._ask("create", group=_text(group))

    async def commit(self, group: bytes, add: Sequence[bytes] = (), remove: Leaf | None = None) -> NewCommit:
        gone = None if remove is None else _text(remove.identity)
        made = await self._ask("commit", group=_text(group), add=[_text(each) for each in add], remove=gone)
        welcome = made.get("welcome")
        return NewCommit(_bytes(made["commit"]), None if welcome is None else _bytes(welcome))

    async def accept(self, group: bytes, commit: bytes) -> None:
        await self._ask("accept", group=_text(group))

    async def discard(self, group: bytes) -> None:
        await self._ask("discard", group=_text(group))

    async def process(self, group: bytes, commit: bytes) -> None:
        await self._ask("process", group=_text(group), commit=_text(commit))

    async def join(self, group: bytes, welcome: bytes) -> None:
        await self._ask("join", group=_text(group), welcome=_text(welcome))

    async def secret(self, group: bytes) -> bytes:
        return _bytes((await self._ask("secret", group=_text(group)))["secret"])

    async def _ask(self, op: str, **values: Any) -> dict[str, Any]:
        if not self._is_open:
            self._is_open = True
            await self._process.ask("open", self.identity, identity=_text(self.identity))
        return await self._process.ask(op, self.identity, **values)


def _text(data: bytes) -> str:
    return b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return b64decode(text, validate=True)


@asynccontextmanager
async def open_ts_mls() -> AsyncGenerator[TsMlsProcess, None]:
    """A process, which ends with the block."""
    command = ["node", "test/mls_leaves.js", "--serve"]
    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, command, cwd=CLIENT_JS, stdin=PIPE, stdout=PIPE)
        process = TsMlsProcess(await nursery.start(run))
        nursery.start_soon(process.read)
        yield process
        nursery.cancel_scope.cancel()
