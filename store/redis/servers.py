"""Finds the Redis server that takes writes: asks the sentinels, connects, logs in.

As the guidelines for clients of Sentinel say (https://redis.io/docs/latest/develop/reference/sentinel-clients/), the
client asks the sentinels in turn, and asks first the one that answered last time. It then asks the server itself
whether it is a master: sentinels hear of a fail-over one after the other, and a former master may be back.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from ssl import SSLCertVerificationError, SSLError
from typing import Any, Final, TypeAlias

import hiredis
import trio

from store.errors import StoreError, Unavailable
from store.redis.url import TLS, Address, Login, RedisUrl

CONNECT_TIMEOUT_S: Final = 3.0
"""For a connection to a server, until it has answered the greeting."""

SENTINEL_TIMEOUT_S: Final = 1.0
"""For the answer of one sentinel, or of one server of a cluster that is asked for the masters. It answers from memory,
and the next one may be quicker."""

MASTER_CHECK_S: Final = 1.0
"""How often a sentinel is asked whether the master has changed; until then nodes may use different masters."""

Argument: TypeAlias = bytes | str | int | float
Command: TypeAlias = Sequence[Argument]
_pack: Callable[..., bytes] = hiredis.pack_command

_CODE: Final = re.compile(r"(?:ERR Error running script .*: -)?([A-Z]+)(?![^ ])", re.DOTALL)
"""The first word. For a command that failed inside a script, Redis 6 writes it after a sentence about the script."""


class RedisError(StoreError):
    """Redis answered a command with an error; the text is Redis' own."""

    @property
    def code(self) -> str:
        """The kind of error, by the first word of the reply: "ERR", "NOGROUP", "OOM", "READONLY". Empty if the reply
        has none."""
        found = _CODE.match(str(self))
        return found[1] if found else ""


def pack(commands: Sequence[Command]) -> bytes:
    """
    :raises TypeError: if an argument has a type that Redis does not know.
    """
    return b"".join([_pack(tuple(command)) for command in commands])


class Servers:
    """The servers and sentinels that a URL names."""

    def __init__(self, url: RedisUrl) -> None:
        self.where = str(url)
        self._url = url
        self._sentinels = list(url.addresses)

    async def find(self) -> Address:
        """The address to connect to: the one server, or the master that the first sentinel to answer names.

        :raises Unavailable: if no sentinel names one; the text has the reason of each.
        """
        if not self._url.service:
            return self._url.addresses[0]
        reasons = []
        for sentinel in list(self._sentinels):
            try:
                async with self._asked(sentinel) as name_master:
                    address = await name_master()
            except (Unavailable, RedisError) as error:
                reasons.append(f"{sentinel}: {error.detail if isinstance(error, Unavailable) else error}")
                continue
            self._sentinels.remove(sentinel)
            self._sentinels.insert(0, sentinel)
            return address
        raise Unavailable("Redis", self.where, f"no sentinel names a master ({'; '.join(reasons)})")

    async def open(self, address: Address) -> trio.abc.Stream:
        """Connect to that server, log in, and check that it is a master, if sentinels named it.

        :raises Unavailable: if that takes too long or fails, or the server is not a master.
        :raises RedisError: if the server refuses the login.
        """
        with _deadline("Redis", address, CONNECT_TIMEOUT_S):
            stream = await _connect(address, self._url.tls)
            try:
                await self._greet(stream, address)
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
            return stream

    async def wait_moved(self, address: Address) -> None:
        """Return once another server is the master, according to a sentinel and to that server.

        A demoted server closes its connections, or answers writes with an error. Until then it takes writes: for 10 s
        and longer if it was well (an operator's SENTINEL FAILOVER), or cut off from the sentinels.
        """
        if not self._url.service:
            await trio.sleep_forever()
        while True:
            try:
                async with self._asked(self._sentinels[0]) as name_master:
                    while (named := await name_master()) == address:  # noqa: ASYNC110
                        await trio.sleep(MASTER_CHECK_S)
                await trio.aclose_forcefully(await self.open(named))
            except (Unavailable, RedisError):
                self._sentinels.append(self._sentinels.pop(0))
                await trio.sleep(MASTER_CHECK_S)
            else:
                return

    async def _greet(self, stream: trio.abc.Stream, address: Address) -> None:
        await _log_in(stream, self._url.login)
        if self._url.database:
            await _ask(stream, ("SELECT", self._url.database))
        await _say_name(stream)
        if self._url.service:
            match await _ask(stream, ("ROLE",)):
                case [b"master", *_]:
                    return
            raise Unavailable("Redis", str(address), "a sentinel names it as the master, but it is not a master (yet)")

    @asynccontextmanager
    async def asked(self, address: Address) -> AsyncGenerator[Callable[..., Awaitable[Any]], None]:
        """A connection of its own to that server; yields `async ask(*command)`.

        :raises Unavailable, RedisError: as `open`; and if an answer takes longer than `SENTINEL_TIMEOUT_S`.
        """
        stream = await self.open(address)

        async def ask(*command: Argument) -> Any:
            with _deadline("Redis", address, SENTINEL_TIMEOUT_S):
                return await _ask(stream, command)

        try:
            yield ask
        finally:
            await trio.aclose_forcefully(stream)

    @asynccontextmanager
    async def _asked(self, sentinel: Address) -> AsyncGenerator[Callable[[], Awaitable[Address]], None]:
        """A connection to this sentinel; yields a function that asks it for the master."""
        with _deadline("Sentinel", sentinel, SENTINEL_TIMEOUT_S):
            stream = await _connect(sentinel, self._url.sentinel_tls)

        async def name_master() -> Address:
            with _deadline("Sentinel", sentinel, SENTINEL_TIMEOUT_S):
                named = await _ask(stream, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._url.service))
            match named:
                case [bytes() as host, bytes() as port] if port.isdigit():
                    return Address(host.decode(errors="replace"), int(port))
                case None:
                    raise Unavailable("Sentinel", str(sentinel), f"knows no service {self._url.service}")
            raise Unavailable("Sentinel", str(sentinel), "does not answer with an address")

        try:
            with _deadline("Sentinel", sentinel, SENTINEL_TIMEOUT_S):
                await _log_in(stream, self._url.sentinel_login)
            yield name_master
        finally:
            await trio.aclose_forcefully(stream)


@contextmanager
def _deadline(service: str, address: Address, timeout_s: float) -> Iterator[None]:
    """Raise `Unavailable` for a timeout or an error of the connection."""
    try:
        with trio.fail_after(timeout_s):
            yield
    except trio.TooSlowError:
        raise Unavailable(service, str(address), f"no answer within {timeout_s:g} s") from None
    except (OSError, trio.BrokenResourceError, hiredis.ProtocolError) as error:
        raise Unavailable(service, str(address), _detail(error)) from error


async def _connect(address: Address, tls: TLS | None) -> trio.abc.Stream:
    if address.port is None:
        return await trio.open_unix_socket(address.host)
    plain = await trio.open_tcp_stream(address.host, address.port)
    if tls is None:
        return plain
    try:
        # Read the certificates for each connection: operators renew them while a process runs.
        stream = trio.SSLStream(plain, tls.context(), server_hostname=address.host)
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(plain)
        raise
    return stream


def _detail(error: Exception) -> str:
    """The reason, as operators read it."""
    cause = error.__cause__ or error
    if isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]  # one for each address of the name
    if isinstance(cause, SSLCertVerificationError):
        return f"its certificate is not accepted: {cause.verify_message}"
    if isinstance(cause, SSLError):
        return f"no TLS with it: {cause.reason or cause}"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(error) or type(cause).__name__


async def _log_in(stream: trio.abc.Stream, login: Login) -> None:
    if not login.username and not login.password:
        return
    command = ("AUTH", login.username, login.password) if login.username else ("AUTH", login.password)
    try:
        await _ask(stream, command)
    except RedisError as error:
        # A server that does not know the command repeats its arguments.
        raise RedisError(str(error).partition(", with args")[0]) from None


async def _say_name(stream: trio.abc.Stream) -> None:
    """For CLIENT LIST; a Redis user without that permission works without a name."""
    try:
        await _ask(stream, ("CLIENT", "SETNAME", "alo-shield"))
    except RedisError as error:
        if error.code != "NOPERM":
            raise


async def _ask(stream: trio.abc.Stream, command: Command) -> Any:
    """Send a command on a stream that no other task uses, and wait for the reply."""
    await stream.send_all(pack([command]))
    reader = hiredis.Reader(replyError=RedisError)
    while (reply := reader.gets()) is False:
        data = await stream.receive_some()
        if not data:
            raise trio.BrokenResourceError("it closed the connection")
        reader.feed(bytes(data))
    if reader.has_data():
        raise hiredis.ProtocolError("received a reply without a request")
    if isinstance(reply, RedisError):
        raise reply
    return reply
