"""The way to a Redis that takes writes: ask the sentinels which one it is, connect, prove who one is.

As the guidelines for clients of Sentinel say (https://redis.io/docs/latest/develop/reference/sentinel-clients/):
sentinels are asked in turn, the one that answered first the next time, and the server is asked whether it is a master
before it is believed to be one: sentinels hear of a fail-over one after the other, and a former master may be back.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from ssl import SSLCertVerificationError, SSLError
from typing import Any, Final, TypeAlias

import hiredis
import trio

from store.errors import StoreError, Unavailable
from store.redis_url import TLS, Address, Login, RedisUrl

CONNECT_TIMEOUT_S: Final = 3.0
"""For a connection to a server, until it has answered the greeting."""

SENTINEL_TIMEOUT_S: Final = 1.0
"""For the answer of one sentinel. It does nothing that takes time; another one may be quicker."""

Argument: TypeAlias = bytes | str | int | float
Command: TypeAlias = Sequence[Argument]
_pack: Callable[..., bytes] = hiredis.pack_command


class RedisError(StoreError):
    """Redis answered a command with an error; the text is Redis' own."""

    @property
    def is_read_only(self) -> bool:
        """Whether a replica was asked to write."""
        text = str(self)
        # From within a script Redis 6 puts it at the end of a sentence.
        return text.startswith("READONLY ") or "-READONLY " in text


def pack(commands: Sequence[Command]) -> bytes:
    """
    :raises TypeError: if an argument is of no type that Redis knows.
    """
    return b"".join([_pack(tuple(command)) for command in commands])


class Servers:
    """Those that a URL leads to."""

    def __init__(self, url: RedisUrl) -> None:
        self.where = str(url)
        self._url = url
        self._sentinels = list(url.addresses)

    async def find(self) -> Address:
        """Where to connect: the one server there is, or the master that the first sentinel to answer names.

        :raises Unavailable: if no sentinel names one; the text has the reason of each.
        """
        if not self._url.service:
            return self._url.addresses[0]
        reasons = []
        for sentinel in list(self._sentinels):
            try:
                address = await self._ask(sentinel)
            except (Unavailable, RedisError) as error:
                reasons.append(str(error) if isinstance(error, Unavailable) else f"{sentinel}: {error}")
                continue
            self._sentinels.remove(sentinel)
            self._sentinels.insert(0, sentinel)
            return address
        raise Unavailable("Redis", self.where, f"no sentinel names a master ({'; '.join(reasons)})")

    async def open(self, address: Address) -> trio.abc.Stream:
        """Connect to that server, log in, and see that it is a master, if sentinels have said so.

        :raises Unavailable: if that takes too long or fails, or it is no master.
        :raises RedisError: if it refuses to let us in.
        """
        async with _opened("Redis", address, self._url.tls, CONNECT_TIMEOUT_S) as stream:
            await _log_in(stream, self._url.login)
            if self._url.database:
                await _ask(stream, ("SELECT", self._url.database))
            await _say_name(stream)
            if self._url.service:
                role = (await _ask(stream, ("ROLE",)))[0]
                if role != b"master":
                    raise Unavailable("Redis", str(address), "the sentinels call it the master, it does not (yet)")
        return stream

    async def _ask(self, sentinel: Address) -> Address:
        async with _opened("Sentinel", sentinel, self._url.sentinel_tls, SENTINEL_TIMEOUT_S) as stream:
            await _log_in(stream, self._url.sentinel_login)
            found = await _ask(stream, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._url.service))
        await trio.aclose_forcefully(stream)
        if found is None:
            raise Unavailable("Sentinel", str(sentinel), f"knows no service {self._url.service}")
        host, port = found
        return Address(host.decode(), int(port))


@asynccontextmanager
async def _opened(
    service: str, address: Address, tls: TLS | None, timeout_s: float
) -> AsyncGenerator[trio.abc.Stream, None]:
    """A stream to this address. It is closed if anything fails in the block, and left open if not."""
    stream: trio.abc.Stream | None = None
    try:
        with trio.fail_after(timeout_s):
            stream = await _connect(address)
            if tls is not None:
                stream = trio.SSLStream(stream, tls.context(), server_hostname=address.host)
                await stream.do_handshake()
            yield stream
    except BaseException as error:
        if stream is not None:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)
        detail = _detail(error, timeout_s)
        if detail is None:
            raise
        raise Unavailable(service, str(address), detail) from error


async def _connect(address: Address) -> trio.SocketStream:
    if address.port is None:
        return await trio.open_unix_socket(address.host)
    return await trio.open_tcp_stream(address.host, address.port)


def _detail(error: BaseException, timeout_s: float) -> str | None:
    """What an operator is told; None for what is no fault of a connection."""
    if isinstance(error, trio.TooSlowError):
        return f"no answer within {timeout_s:g} s"
    if not isinstance(error, (OSError, trio.BrokenResourceError, hiredis.ProtocolError)):
        return None
    cause = error.__cause__ or error
    if isinstance(cause, SSLCertVerificationError):
        return f"its certificate is not accepted: {cause.verify_message}"
    if isinstance(cause, SSLError):
        return f"no TLS with it: {cause.reason or cause}"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) if error is cause else str(error) or type(cause).__name__


async def _log_in(stream: trio.abc.Stream, login: Login) -> None:
    if not login.username and not login.password:
        return
    command = ("AUTH", login.username, login.password) if login.username else ("AUTH", login.password)
    try:
        await _ask(stream, command)
    except RedisError as error:
        # A server that does not know the command repeats what came with it.
        raise RedisError(str(error).partition(", with args")[0]) from None


async def _say_name(stream: trio.abc.Stream) -> None:
    """For CLIENT LIST; a user who may not do that gets on without."""
    try:
        await _ask(stream, ("CLIENT", "SETNAME", "alo-shield"))
    except RedisError as error:
        if not str(error).startswith("NOPERM"):
            raise


async def _ask(stream: trio.abc.Stream, command: Command) -> Any:
    """Ask on a stream that nobody else uses, and wait for the answer."""
    await stream.send_all(pack([command]))
    reader = hiredis.Reader(replyError=RedisError)
    while (reply := reader.gets()) is False:
        data = await stream.receive_some()
        if not data:
            raise trio.BrokenResourceError("it closed the connection")
        reader.feed(bytes(data))
    if reader.has_data():
        raise hiredis.ProtocolError("a reply came that nobody had asked for")
    if isinstance(reply, RedisError):
        raise reply
    return reply
