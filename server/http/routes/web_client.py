"""The web client, for browsers (`docs/web-client.md`). A deployment has it if WEB_CLIENT is 1."""

from __future__ import annotations

from typing import Final

from server.http.conditional import held_tag, tag_headers
from server.http.problem_codes import ProblemCode
from server.http.problems import Problem
from server.http.request_classes import RequestClass
from server.http.routing import Answer, EncodedAnswer, Request, Routes
from server.http.web_client import PAGE

routes = Routes()

STATUSES: Final = (200, 304)


@routes.page("GET /app", is_web_client=True, statuses=STATUSES)
async def get_web_client(request: Request[None]) -> Answer | EncodedAnswer:
    """Show the web client."""
    return _answer(request, PAGE)


@routes.page(
    "GET /app/<path:file>",
    is_web_client=True,
    statuses=STATUSES,
    media_type="text/javascript",
    # A first visit asks for all modules, some 200, at once.
    request_class=RequestClass.FILE,
    problems=(ProblemCode.NOT_FOUND,),
)
async def get_web_client_file(request: Request[None], file: str) -> Answer | EncodedAnswer:
    """Get a file of the web client: a module, its style or its icon."""
    return _answer(request, file)


def _answer(request: Request[None], name: str) -> Answer | EncodedAnswer:
    client = request.services.web_client
    found = client.file(name) if client else None
    if client is None or found is None:
        raise Problem(ProblemCode.NOT_FOUND, "the web client has no such file")
    headers = {**client.headers, **tag_headers(found.tag)}
    held = held_tag(request.headers.get("if-none-match", ""), found.tag)
    if held is not None:
        return Answer(None, 304, {**headers, **tag_headers(held)})
    typed = {**headers, "content-type": f"{found.media_type}; charset=utf-8"}
    return EncodedAnswer(found.body, typed, found.forms)
