"""How a route is declared, and the values that its handler takes and returns. Handlers do not meet Quart.

A file of `server.http.routes` declares each route above its handler:

    routes = Routes()

    @routes.read("GET /v1/quiet-hours")
    async def get_quiet_hours(identity: Identity, request: Request[None]) -> Answer: ...

    @routes.write("PUT /v1/quiet-hours", body=PutQuietHours, announces=[Announcements.own_settings_changed])
    async def put_quiet_hours(identity: Identity, request: Request[PutQuietHours]) -> Changed: ...

The frame (`server.http.frame`) authenticates the request, decodes its body, shields a write and makes the announcements
that the handler returns. Values of the path are keyword arguments of the handler. `read` and `write` are for devices;
`open_read` and `open_write` are for everybody, and `server.http.routes.OPEN` lists them too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import (
    Any,
    Concatenate,
    Final,
    Generic,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    TypeVarTuple,
    Unpack,
    overload,
)

from msgspec import Struct

from server.http.announcements import Announcements
from server.http.encoding import Encoding
from server.http.services import Services
from store.accounts import Identity

Sent = TypeVar("Sent")
Body = TypeVar("Body")
Outcome = TypeVar("Outcome", bound="AnyAnswer | Changed")
_Handler = TypeVar("_Handler", bound=Callable[..., Awaitable[Any]])
Values = ParamSpec("Values")
Arguments = TypeVarTuple("Arguments")


class Headers(Protocol):
    """The headers of a request. Names are given in lower case."""

    def get(self, name: str, default: str, /) -> str:
        """The value of a header, without the spaces around it."""


class Request(Struct, Generic[Body], frozen=True):
    """A parsed request.

    :ivar encoding: of the answer.
    :ivar query: the parameters after the question mark; empty for a write.
    :ivar body: of the type that the route declares, or as its `prepare` returns it; None if it declares none.
    """

    services: Services
    encoding: Encoding
    headers: Headers
    query: Mapping[str, str]
    body: Body


class Answer(Struct, frozen=True):
    """A body that the frame encodes as the client accepts it."""

    body: Any
    status: int = 200


class EncodedAnswer(Struct, frozen=True):
    """A body that is encoded already."""

    body: bytes


class HtmlAnswer(Struct, frozen=True):
    """A page for a browser."""

    html: str
    status: int = 200


AnyAnswer: TypeAlias = Answer | EncodedAnswer | HtmlAnswer

NO_QUERY: Final[Mapping[str, str]] = {}
NO_CONTENT: Final = Answer(None, 204)
"""The body is empty."""

Announce: TypeAlias = Callable[..., Awaitable[None]]
"""A method of `Announcements`."""

NOTHING: Final[Collection[Announce]] = ()
"""`announces=NOTHING`: no device has to hear of the change."""


class Announcement:
    """A method of `Announcements` and its arguments: `Announcement(Announcements.muted, user, conversation)`."""

    __slots__ = ("_arguments", "announce")

    def __init__(
        self, announce: Callable[[Announcements, Unpack[Arguments]], Awaitable[None]], *arguments: *Arguments
    ) -> None:
        self.announce: Announce = announce
        self._arguments = arguments

    async def make(self, announcements: Announcements) -> None:
        await self.announce(announcements, *self._arguments)


class Changed(Struct, frozen=True):
    """A write that is committed. The frame makes the announcements in this order.

    :ivar then: the answer; or a function that the frame calls after the announcements, for another write or to read the
        answer.
    """

    announcements: Sequence[Announcement]
    then: AnyAnswer | Callable[[], Awaitable[AnyAnswer | Changed]] = NO_CONTENT


class Access(Enum):
    """Callers that a route admits."""

    DEVICE = "the token of a device; the handler gets its identity"
    OPERATOR = "the operators' token"
    OPEN = "everybody"


@dataclass(frozen=True, slots=True)
class Route:
    """A declared route.

    :ivar path: as Quart takes it, with converters: `/v1/devices/<uuid:device>`.
    :ivar body: the type of the request's body; None: the frame reads none.
    :ivar prepare: makes the body that the handler gets; a client that hangs up cancels it.
    :ivar announces: None for a read.
    :ivar is_hot: a read that the thin path (`server.http.hot_path`) answers, if the request is a plain one.
    """

    method: str
    path: str
    access: Access
    handler: Callable[..., Awaitable[AnyAnswer | Changed]]
    body: type[Any] | None = None
    prepare: Callable[[Request[Any]], Awaitable[Any]] | None = None
    announces: Collection[Announce] | None = None
    is_hot: bool = False

    @property
    def rule(self) -> str:
        """As declared: `DELETE /v1/devices/<uuid:device>`."""
        return f"{self.method} {self.path}"


_DeviceHandler: TypeAlias = Callable[Concatenate[Identity, Request[Body], Values], Awaitable[Outcome]]
_OtherHandler: TypeAlias = Callable[Concatenate[Request[Body], Values], Awaitable[Outcome]]


class Routes:
    """The routes of one file. Each method decorates a handler, and returns it as it is."""

    def __init__(self) -> None:
        self.declared: list[Route] = []

    def read(
        self, rule: str, *, is_hot: bool = False
    ) -> Callable[[_DeviceHandler[None, Values, Outcome]], _DeviceHandler[None, Values, Outcome]]:
        """
        :param is_hot: clients ask so often that the thin path answers (`server.http.hot_path`).
        """
        return self._declare(rule, Access.DEVICE, is_hot=is_hot)

    @overload
    def write(
        self, rule: str, *, announces: Collection[Announce]
    ) -> Callable[[_DeviceHandler[None, Values, Outcome]], _DeviceHandler[None, Values, Outcome]]: ...

    @overload
    def write(
        self, rule: str, *, announces: Collection[Announce], body: type[Body]
    ) -> Callable[[_DeviceHandler[Body, Values, Outcome]], _DeviceHandler[Body, Values, Outcome]]: ...

    def write(self, rule: str, *, announces: Collection[Announce], body: type[Any] | None = None) -> Any:
        """
        :param announces: the announcements that the handler may return; `NOTHING` if it returns none.
        """
        return self._declare(rule, Access.DEVICE, body=body, announces=announces)

    def operator_read(
        self, rule: str
    ) -> Callable[[_OtherHandler[None, Values, Outcome]], _OtherHandler[None, Values, Outcome]]:
        return self._declare(rule, Access.OPERATOR)

    def open_read(
        self, rule: str, *, is_hot: bool = False
    ) -> Callable[[_OtherHandler[None, Values, Outcome]], _OtherHandler[None, Values, Outcome]]:
        return self._declare(rule, Access.OPEN, is_hot=is_hot)

    @overload
    def open_write(
        self, rule: str, *, announces: Collection[Announce]
    ) -> Callable[[_OtherHandler[None, Values, Outcome]], _OtherHandler[None, Values, Outcome]]: ...

    @overload
    def open_write(
        self, rule: str, *, announces: Collection[Announce], body: type[Body]
    ) -> Callable[[_OtherHandler[Body, Values, Outcome]], _OtherHandler[Body, Values, Outcome]]: ...

    @overload
    def open_write(
        self,
        rule: str,
        *,
        announces: Collection[Announce],
        body: type[Sent],
        prepare: Callable[[Request[Sent]], Awaitable[Body]],
    ) -> Callable[[_OtherHandler[Body, Values, Outcome]], _OtherHandler[Body, Values, Outcome]]: ...

    def open_write(
        self,
        rule: str,
        *,
        announces: Collection[Announce],
        body: type[Any] | None = None,
        prepare: Callable[[Request[Any]], Awaitable[Any]] | None = None,
    ) -> Any:
        """
        :param prepare: makes the handler's body of the client's before the write begins, such as a hash of a password;
            a client that hangs up cancels it.
        """
        return self._declare(rule, Access.OPEN, body=body, prepare=prepare, announces=announces)

    def _declare(self, rule: str, access: Access, **details: Any) -> Callable[[_Handler], _Handler]:
        method, path = rule.split(" ")
        if (method == "GET") == ("announces" in details):
            raise ValueError(f"{rule}: declare a GET with read, other methods with write")

        def declare(handler: _Handler) -> _Handler:
            self.declared.append(Route(method, path, access, handler, **details))
            return handler

        return declare
