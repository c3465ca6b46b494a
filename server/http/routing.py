"""How a route is declared, and the values that its handler takes and returns. Handlers do not meet Quart.

A file of `server.http.routes` declares each route above its handler:

    routes = Routes()

    @routes.read("GET /v1/quiet-hours", answer=QuietHoursAnswer)
    async def get_quiet_hours(identity: Identity, request: Request[None]) -> Answer: ...

    @routes.write("PUT /v1/quiet-hours", body=PutQuietHours, announces=[Announcements.own_settings_changed])
    async def put_quiet_hours(identity: Identity, request: Request[PutQuietHours]) -> Changed: ...

The frame (`server.http.frame`) authenticates the request, reads its query, decodes its body, shields a write and makes
the announcements that the handler returns. Values of the path are keyword arguments of the handler. `read` and `write`
are for devices, `operator_read` and `operator_write` for operators; `open_read`, `open_write` and `page` are for
everybody, and `server.http.routes.OPEN` lists them too. A hot
read may have an admission of its own (`server.http.hot_reads`), which reads what the handler needs in the same round
trip as the token, and gives it to the handler after the identity.

`/openapi.json` and `/docs` are made from these declarations: the docstring of a handler says in its first sentence what
the route does; `answer` is the type of its body, and `problems` are the codes that no other declaration implies
(`problems_of`).
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
    TypeAlias,
    TypeVar,
    TypeVarTuple,
    Unpack,
    overload,
)

from msgspec import Struct

from server.http.announcements import Announcements
from server.http.compression import CompressedForms
from server.http.encoding import Encoding
from server.http.problem_codes import ProblemCode
from server.http.queries import NoQuery
from server.http.request_classes import LIMITS, Allowance, RequestClass
from server.http.request_headers import Headers
from server.http.services import Services
from store.tokens import Identity

Sent = TypeVar("Sent")
Body = TypeVar("Body")
Query = TypeVar("Query", bound=Struct)
Found = TypeVar("Found")
Outcome = TypeVar("Outcome", bound="AnyAnswer | Changed")
_Handler = TypeVar("_Handler", bound=Callable[..., Awaitable[Any]])
Values = ParamSpec("Values")
Arguments = TypeVarTuple("Arguments")


class Request(Struct, Generic[Body], frozen=True):
    """A parsed request.

    :ivar address: of the client, also behind trusted proxies; `server.transport.proxies.address_key` makes the key of
        limits of it.
    :ivar encoding: of the answer.
    :ivar query_string: the text after the question mark; empty if there is none.
    :ivar query: of a read: the parameters as the struct that the route declares; None if it declares none.
    :ivar body: of a write: of the type that the route declares, or as its `prepare` returns it; None if it declares
        none. A write has no parameters, and a read no body.
    """

    services: Services
    address: str
    encoding: Encoding
    headers: Headers
    query_string: str
    query: Body
    body: Body


NO_HEADERS: Final[Mapping[str, str]] = {}


class Answer(Struct, frozen=True):
    """A body that the exchange encodes as the client accepts it.

    :ivar headers: that other answers do not have; in lower case.
    """

    body: Any
    status: int = 200
    headers: Mapping[str, str] = NO_HEADERS


class EncodedAnswer(Struct, frozen=True):
    """A body that is encoded already.

    :ivar headers: as in `Answer`.
    :ivar forms: the compressed forms of a body that is kept.
    """

    body: bytes
    headers: Mapping[str, str] = NO_HEADERS
    forms: CompressedForms | None = None


class HtmlAnswer(Struct, frozen=True):
    """A page for a browser.

    :ivar headers: all of them; in lower case.
    """

    html: str
    headers: Mapping[str, str]
    status: int = 200


class FileAnswer(Struct, frozen=True):
    """A file, which is not compressed again."""

    body: bytes
    content_type: str


AnyAnswer: TypeAlias = Answer | EncodedAnswer | HtmlAnswer | FileAnswer

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
    """Callers that a route admits.

    A route needs a confirmed device if a thief of a token could do lasting harm by it: keep the owner out, or take out
    everything at once.
    """

    DEVICE = "the token of a device; the handler gets its identity"
    CONFIRMED_DEVICE = "the token of a device on which the user has shown the password lately; otherwise as DEVICE"
    OPERATOR = "the operators' token"
    OPEN = "everybody"


@dataclass(frozen=True, slots=True)
class Route:
    """A declared route.

    :ivar path: as Quart takes it, with converters: `/v1/devices/<uuid:device>`.
    :ivar query: the type of the parameters; None: the route ignores what the query has, as pages for browsers do, since
        mail programs and scanners add parameters of their own.
    :ivar body: the type of the request's body; None: the frame reads none.
    :ivar form: of a page: the type of the form's fields. It takes any texts, and the page says what is wrong.
    :ivar prepare: makes the body that the handler gets, from the same arguments; a client that hangs up cancels it.
    :ivar announces: None for a read.
    :ivar answer: the type of the answer's body; None: it has none.
    :ivar statuses: those of all answers but problems.
    :ivar problems: codes that this route alone answers with.
    :ivar admit: admits a request instead of `server.http.authentication`, whose errors it raises; called like the
        handler, it returns the handler's first arguments.
    :ivar is_hot: a read that the thin path (`server.http.hot_path`) answers, if the request is a plain one.
    :ivar request_class: the requests that are limited together with those of this route.
    :ivar takes_large: of a write: its body has up to `MAX_LARGE_BODY_BYTES`, if its head says how many
        (`server.http.large_bodies`).
    :ivar is_operators_page: a page without data, on which operators show their token, and the files of that page.
    :ivar is_web_client: the page of the web client, and its files.
    :ivar media_type: of a page.
    """

    method: str
    path: str
    access: Access
    handler: Callable[..., Awaitable[AnyAnswer | Changed]]
    query: type[Struct] | None = NoQuery
    body: type[Any] | None = None
    form: type[Any] | None = None
    prepare: Callable[..., Awaitable[Any]] | None = None
    announces: Collection[Announce] | None = None
    answer: type[Any] | None = None
    statuses: Collection[int] = (200,)
    problems: Collection[ProblemCode] = ()
    admit: Callable[..., Awaitable[tuple[Any, ...]]] | None = None
    is_hot: bool = False
    request_class: RequestClass = RequestClass.READ
    takes_large: bool = False
    is_operators_page: bool = False
    is_web_client: bool = False
    media_type: str = "text/html"

    def is_served(self, *, has_operators: bool, has_web_client: bool) -> bool:
        """Whether an application with a token of operators, or with the web client, has the route."""
        return (has_operators or not self.needs_operators) and (has_web_client or not self.is_web_client)

    @property
    def needs_operators(self) -> bool:
        """Whether the application has the route only if there is a token of operators."""
        return self.access is Access.OPERATOR or self.is_operators_page

    @property
    def is_for_devices(self) -> bool:
        """Whether the handler gets the identity of a device."""
        return self.access in (Access.DEVICE, Access.CONFIRMED_DEVICE)

    @property
    def allowance(self) -> Allowance | None:
        """The requests that a user may make of the route's class, or an address if the route asks for no device."""
        limits = LIMITS[self.request_class]
        return limits.user if self.is_for_devices else limits.address

    @property
    def rule(self) -> str:
        """As declared: `DELETE /v1/devices/<uuid:device>`."""
        return f"{self.method} {self.path}"


_DeviceHandler: TypeAlias = Callable[Concatenate[Identity, Request[Body], Values], Awaitable[Outcome]]
_Admit: TypeAlias = Callable[Concatenate[Request[Body], Values], Awaitable[tuple[Identity, Found]]]
_AdmittedHandler: TypeAlias = Callable[Concatenate[Identity, Found, Request[Body], Values], Awaitable[Outcome]]
_OtherHandler: TypeAlias = Callable[Concatenate[Request[Body], Values], Awaitable[Outcome]]


class Routes:
    """The routes of one file. Each method decorates a handler, and returns it as it is."""

    def __init__(self) -> None:
        self.declared: list[Route] = []

    @overload
    def read(
        self,
        rule: str,
        *,
        answer: type[Any],
        statuses: Collection[int] = (200,),
        problems: Collection[ProblemCode] = (),
        request_class: RequestClass | None = None,
        is_hot: bool = False,
        confirmed: bool = False,
    ) -> Callable[[_DeviceHandler[None, Values, Outcome]], _DeviceHandler[None, Values, Outcome]]: ...

    @overload
    def read(
        self,
        rule: str,
        *,
        query: type[Query],
        answer: type[Any],
        problems: Collection[ProblemCode] = (),
        request_class: RequestClass | None = None,
        is_hot: bool = False,
        confirmed: bool = False,
    ) -> Callable[[_DeviceHandler[Query, Values, Outcome]], _DeviceHandler[Query, Values, Outcome]]: ...

    @overload
    def read(
        self,
        rule: str,
        *,
        admit: _Admit[None, Values, Found],
        answer: type[Any],
        problems: Collection[ProblemCode] = (),
        request_class: RequestClass | None = None,
        is_hot: bool = False,
    ) -> Callable[[_AdmittedHandler[Found, None, Values, Outcome]], _AdmittedHandler[Found, None, Values, Outcome]]: ...

    @overload
    def read(
        self,
        rule: str,
        *,
        query: type[Query],
        admit: _Admit[Query, Values, Found],
        answer: type[Any],
        statuses: Collection[int] = (200,),
        problems: Collection[ProblemCode] = (),
        request_class: RequestClass | None = None,
        is_hot: bool = False,
    ) -> Callable[
        [_AdmittedHandler[Found, Query, Values, Outcome]], _AdmittedHandler[Found, Query, Values, Outcome]
    ]: ...

    def read(self, rule: str, *, answer: type[Any], confirmed: bool = False, **details: Any) -> Any:
        """
        :param query: the type of the parameters; without it the route has none.
        :param statuses: with 304 for a client that shows an entity tag of what it holds.
        :param admit: admits a request, and finds what the handler gets after the identity.
        :param request_class: by default HOT_READ or READ.
        :param is_hot: clients ask so often that the thin path answers (`server.http.hot_path`).
        :param confirmed: it needs a confirmed device (`Access`).
        """
        return self._declare(rule, _of_device(confirmed), answer=answer, **details)

    @overload
    def write(
        self,
        rule: str,
        *,
        announces: Collection[Announce],
        answer: type[Any] | None = None,
        statuses: Collection[int] | None = None,
        problems: Collection[ProblemCode] = (),
        request_class: RequestClass | None = None,
        confirmed: bool = False,
    ) -> Callable[[_DeviceHandler[None, Values, Outcome]], _DeviceHandler[None, Values, Outcome]]: ...

    @overload
    def write(
        self,
        rule: str,
        *,
        body: type[Body],
        announces: Collection[Announce],
        answer: type[Any] | None = None,
        statuses: Collection[int] | None = None,
        problems: Collection[ProblemCode] = (),
        request_class: RequestClass | None = None,
        takes_large: bool = False,
        confirmed: bool = False,
    ) -> Callable[[_DeviceHandler[Body, Values, Outcome]], _DeviceHandler[Body, Values, Outcome]]: ...

    @overload
    def write(
        self,
        rule: str,
        *,
        body: type[Sent],
        prepare: Callable[[Identity, Request[Sent]], Awaitable[Body]],
        announces: Collection[Announce],
        answer: type[Any] | None = None,
        statuses: Collection[int] | None = None,
        problems: Collection[ProblemCode] = (),
        request_class: RequestClass | None = None,
        confirmed: bool = False,
    ) -> Callable[[_DeviceHandler[Body, Values, Outcome]], _DeviceHandler[Body, Values, Outcome]]: ...

    def write(self, rule: str, *, announces: Collection[Announce], confirmed: bool = False, **details: Any) -> Any:
        """
        :param prepare: makes the handler's body of the client's before the write begins, such as a hash of a password;
            a client that hangs up cancels it.
        :param announces: the announcements that the handler may return; `NOTHING` if it returns none.
        :param statuses: by default 200, or 204 for a route without an answer.
        :param request_class: by default WRITE.
        :param takes_large: the body may be larger than those of other routes.
        :param confirmed: it needs a confirmed device (`Access`).
        """
        return self._declare(rule, _of_device(confirmed), announces=announces, **details)

    @overload
    def operator_read(
        self, rule: str, *, answer: type[Any], problems: Collection[ProblemCode] = ()
    ) -> Callable[[_OtherHandler[None, Values, Outcome]], _OtherHandler[None, Values, Outcome]]: ...

    @overload
    def operator_read(
        self, rule: str, *, query: type[Query], answer: type[Any], problems: Collection[ProblemCode] = ()
    ) -> Callable[[_OtherHandler[Query, Values, Outcome]], _OtherHandler[Query, Values, Outcome]]: ...

    def operator_read(self, rule: str, *, answer: type[Any], **details: Any) -> Any:
        """
        :param query: the type of the parameters; without it the route has none.
        """
        return self._declare(rule, Access.OPERATOR, answer=answer, **details)

    def operator_write(
        self, rule: str, *, announces: Collection[Announce], problems: Collection[ProblemCode] = ()
    ) -> Callable[[_OtherHandler[None, Values, Outcome]], _OtherHandler[None, Values, Outcome]]:
        """A write without a body and without an answer."""
        return self._declare(rule, Access.OPERATOR, announces=announces, problems=problems)

    def open_read(
        self,
        rule: str,
        *,
        answer: type[Any],
        problems: Collection[ProblemCode] = (),
        request_class: RequestClass | None = None,
        is_hot: bool = False,
    ) -> Callable[[_OtherHandler[None, Values, Outcome]], _OtherHandler[None, Values, Outcome]]:
        return self._declare(
            rule, Access.OPEN, answer=answer, problems=problems, request_class=request_class, is_hot=is_hot
        )

    @overload
    def page(
        self,
        rule: str,
        *,
        announces: Collection[Announce] | None = None,
        statuses: Collection[int] = (200,),
        is_operators_page: bool = False,
        is_web_client: bool = False,
        media_type: str = "text/html",
        request_class: RequestClass | None = None,
        problems: Collection[ProblemCode] = (),
    ) -> Callable[[_OtherHandler[None, Values, Outcome]], _OtherHandler[None, Values, Outcome]]: ...

    @overload
    def page(
        self, rule: str, *, form: type[Body], announces: Collection[Announce], statuses: Collection[int] = (200,)
    ) -> Callable[[_OtherHandler[Body, Values, Outcome]], _OtherHandler[Body, Values, Outcome]]: ...

    def page(
        self,
        rule: str,
        *,
        form: type[Any] | None = None,
        announces: Collection[Announce] | None = None,
        statuses: Collection[int] = (200,),
        is_operators_page: bool = False,
        is_web_client: bool = False,
        media_type: str = "text/html",
        request_class: RequestClass | None = None,
        problems: Collection[ProblemCode] = (),
    ) -> Any:
        """A page for a browser, open to everybody.

        :param form: the fields of the form that the browser sends.
        :param announces: of a write.
        :param is_operators_page: the application has it only if there is a token of operators.
        :param is_web_client: the application has it only if it serves the web client.
        :param media_type: of the page, or of the file that a page needs; the handler sends it, too.
        :param request_class: by default OPEN.
        """
        details: dict[str, Any] = {} if announces is None else {"announces": announces}
        if form is not None:
            details["form"] = form
        details |= {
            "query": None,
            "answer": HtmlAnswer,
            "is_operators_page": is_operators_page,
            "is_web_client": is_web_client,
            "media_type": media_type,
            "request_class": request_class,
            "problems": problems,
        }
        return self._declare(rule, Access.OPEN, statuses=statuses, **details)

    @overload
    def open_write(
        self,
        rule: str,
        *,
        body: type[Body],
        announces: Collection[Announce],
        answer: type[Any] | None = None,
        statuses: Collection[int] | None = None,
        problems: Collection[ProblemCode] = (),
        request_class: RequestClass | None = None,
    ) -> Callable[[_OtherHandler[Body, Values, Outcome]], _OtherHandler[Body, Values, Outcome]]: ...

    @overload
    def open_write(
        self,
        rule: str,
        *,
        body: type[Sent],
        prepare: Callable[[Request[Sent]], Awaitable[Body]],
        announces: Collection[Announce],
        answer: type[Any] | None = None,
        statuses: Collection[int] | None = None,
        problems: Collection[ProblemCode] = (),
        request_class: RequestClass | None = None,
    ) -> Callable[[_OtherHandler[Body, Values, Outcome]], _OtherHandler[Body, Values, Outcome]]: ...

    def open_write(self, rule: str, *, announces: Collection[Announce], **details: Any) -> Any:
        """
        :param prepare: as in `write`.
        :param request_class: by default OPEN.
        """
        return self._declare(rule, Access.OPEN, announces=announces, **details)

    def _declare(
        self,
        rule: str,
        access: Access,
        *,
        statuses: Collection[int] | None = None,
        request_class: RequestClass | None = None,
        **details: Any,
    ) -> Callable[[_Handler], _Handler]:
        method, path = rule.split(" ")
        if (method == "GET") == ("announces" in details):
            raise ValueError(f"{rule}: declare a GET with read, other methods with write")
        usual = (200,) if details.get("answer") else (204,)
        usual_class = _class_of(method, access, is_hot=details.get("is_hot", False))
        details |= {"statuses": statuses or usual, "request_class": request_class or usual_class}

        def declare(handler: _Handler) -> _Handler:
            route = Route(method, path, access, handler, **details)
            if route.allowance is None:
                raise ValueError(f"{rule}: the class {route.request_class.value} has no limit for these callers")
            self.declared.append(route)
            return handler

        return declare


def _class_of(method: str, access: Access, *, is_hot: bool) -> RequestClass:
    """The class of a route that declares none."""
    match access:
        case Access.OPEN:
            return RequestClass.OPEN
        case Access.OPERATOR:
            return RequestClass.OPERATOR
        case Access.DEVICE | Access.CONFIRMED_DEVICE:
            if method != "GET":
                return RequestClass.WRITE
            return RequestClass.HOT_READ if is_hot else RequestClass.READ


def _of_device(confirmed: bool) -> Access:
    return Access.CONFIRMED_DEVICE if confirmed else Access.DEVICE
