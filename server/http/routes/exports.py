"""Exports: files with all data of the account of the user who asks."""

from __future__ import annotations

from uuid import UUID

from server.http.answers.exports import ExportsAnswer, export_body
from server.http.problem_codes import ProblemCode
from server.http.problems import Problem
from server.http.request_classes import RequestClass
from server.http.routing import NOTHING, Answer, FileAnswer, Request, Routes
from server.http.services import Services
from server.http.sources import source_of
from store import exports
from store.errors import ObjectMissing, UnknownExport
from store.objects.interface import Objects
from store.tokens import Identity

routes = Routes()

MAX_PART_BYTES = 1024 * 1024
"""The job makes no larger part."""


def _objects(services: Services) -> Objects:
    if services.objects is None:
        raise Problem(ProblemCode.EXPORT_NOT_OFFERED, "this deployment has no object store, which exports are kept in")
    return services.objects


@routes.write(
    "POST /v1/exports",
    announces=NOTHING,
    answer=ExportsAnswer,
    statuses=[202],
    problems=[ProblemCode.EXPORT_NOT_OFFERED, ProblemCode.TOO_MANY_EXPORTS],
    confirmed=True,
    request_class=RequestClass.EXPORT,
)
async def ask_export(identity: Identity, request: Request[None]) -> Answer:
    """Ask for an export of your account, once a day.

    A job makes it, and a mail says when it can be fetched. It is deleted a week later, and with the account.
    """
    pool = request.services.pool
    _objects(request.services)
    await exports.ask(pool, identity.user, source=source_of(request, identity))
    return await _listed(identity, request, 202)


@routes.read("GET /v1/exports", answer=ExportsAnswer)
async def list_exports(identity: Identity, request: Request[None]) -> Answer:
    """List your exports."""
    return await _listed(identity, request, 200)


async def _listed(identity: Identity, request: Request[None], status: int) -> Answer:
    found = await exports.exports_of(request.services.pool, identity.user)
    return Answer(ExportsAnswer([export_body(each, request.encoding) for each in found]), status)


@routes.read(
    "GET /v1/exports/<uuid:export>/parts/<int:part>",
    answer=FileAnswer,
    problems=[ProblemCode.EXPORT_NOT_OFFERED, ProblemCode.UNKNOWN_EXPORT],
    confirmed=True,
)
async def get_part(identity: Identity, request: Request[None], export: UUID, part: int) -> FileAnswer:
    """Get a part of an export, from 1.

    All parts, one after the other, are one gzip file of lines of JSON.
    """
    objects = _objects(request.services)
    await exports.check_part(request.services.pool, identity.user, export.bytes, part)
    try:
        data = await objects.get(exports.key_of(export.bytes, part), max_bytes=MAX_PART_BYTES)
    except ObjectMissing:
        # The job that deletes it has begun.
        raise UnknownExport from None
    return FileAnswer(data, "application/gzip")
