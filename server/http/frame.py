"""What routes take from a request, and what they answer."""

from __future__ import annotations

from typing import Any, TypeVar

from quart import Response, has_request_context, request, websocket

from server.http import encoding, mail_pages
from server.http.encoding import Encoding
from store import accounts
from store.accounts import Identity
from store.errors import (
    TokenUnknown,
)
from store.postgres.pool import Pool

_T = TypeVar("_T")

DEFAULT_LIMIT, MAX_LIMIT = 50, 100


class ApiError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail


async def identify(pool: Pool) -> Identity:
    return await accounts.device_by_token(pool, token_shown())


def token_shown() -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise TokenUnknown
    return token


async def body_of(type_: type[_T]) -> _T:
    data: Any = await request.get_data()
    return encoding.decode(data, request.headers.get("Content-Type", ""), type_)


def limit_asked() -> int:
    return number("limit", request.args.get("limit", str(DEFAULT_LIMIT)), 1, MAX_LIMIT)


def number(name: str, text: str, least: int, most: int) -> int:
    # isdecimal alone admits other scripts' digits, and int() thousands of them.
    if text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) <= most:
        return int(text)
    raise ApiError(400, "invalid_query", f"{name} must be a number from {least} to {most}")


def flag(name: str) -> bool:
    text = request.args.get(name, "false")
    if text in ("true", "false"):
        return text == "true"
    raise ApiError(400, "invalid_query", f"{name} must be true or false")


def encoding_asked() -> Encoding:
    # A WebSocket handshake, which belongs to `socket` and finds nothing here, is answered outside of a request.
    asked = request if has_request_context() else websocket
    return "cbor" if encoding.CBOR in asked.headers.get("Accept", "") else "json"


def answer(body: Any, status: int = 200) -> Response:
    return answer_encoded(encoding.encode(body, encoding_asked()), status)


def answer_encoded(body: bytes, status: int = 200) -> Response:
    return Response(body, status, content_type=encoding.CBOR if encoding_asked() == "cbor" else encoding.JSON)


def page(page: str, status: int = 200) -> Response:
    response = Response(page, status, content_type="text/html; charset=utf-8")
    response.headers.update(mail_pages.HEADERS)
    return response
