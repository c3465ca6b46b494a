"""The reference of the HTTP interface: an OpenAPI document, and a page for a browser."""

from __future__ import annotations

from functools import cache
from typing import Any

import trio

from server.http.compression import CompressedForms
from server.http.encoding import Encoding, encode
from server.http.reference import page
from server.http.reference.document import OpenApiAnswer, document
from server.http.routing import EncodedAnswer, HtmlAnswer, Request, Routes

routes = Routes()


@routes.open_read("GET /openapi.json", answer=OpenApiAnswer)
async def get_openapi(request: Request[None]) -> EncodedAnswer:
    """Get the OpenAPI document of this server."""
    # In a thread: the first call takes 100 ms, and no other request should wait for it.
    return await trio.to_thread.run_sync(_encoded, *_has(request), request.encoding)


@routes.page("GET /docs")
async def get_docs(request: Request[None]) -> HtmlAnswer:
    """Show this page."""
    return await trio.to_thread.run_sync(_page, *_has(request))


def _has(request: Request[None]) -> tuple[bool, bool]:
    """Whether the application serves operators, and the web client."""
    return bool(request.services.ops_token), request.services.web_client is not None


@cache
def _document(has_operators: bool, has_web_client: bool) -> dict[str, Any]:
    """The document of the routes that the application serves (`server.http.app`)."""
    # Later than this file, which declares some of them.
    from server.http.routes import ROUTES

    has = {"has_operators": has_operators, "has_web_client": has_web_client}
    return document([route for route in ROUTES if route.is_served(**has)])


@cache
def _encoded(has_operators: bool, has_web_client: bool, encoding: Encoding) -> EncodedAnswer:
    return EncodedAnswer(encode(_document(has_operators, has_web_client), encoding), forms=CompressedForms())


@cache
def _page(has_operators: bool, has_web_client: bool) -> HtmlAnswer:
    return HtmlAnswer(page.html(_document(has_operators, has_web_client)), page.HEADERS)
