"""Attachments: tickets to upload files to the object store, and to download them from there."""

from __future__ import annotations

from uuid import UUID

from server.http.answers.attachments import (
    DownloadTicketsAnswer,
    MissingPartsAnswer,
    UploadTicketsAnswer,
    downloads_body,
    missing_body,
    upload_body,
)
from server.http.attachment_bodies import NewAttachments, WantedDownloads, files_of
from server.http.problem_codes import ProblemCode
from server.http.queries import PartsQuery
from server.http.request_classes import RequestClass
from server.http.routing import NO_CONTENT, NOTHING, Answer, Request, Routes
from store.tokens import Identity

routes = Routes()


@routes.write(
    "POST /v1/attachments",
    body=NewAttachments,
    announces=NOTHING,
    answer=UploadTicketsAnswer,
    statuses=[201],
    problems=[ProblemCode.NO_OBJECT_STORE, ProblemCode.QUOTA_EXCEEDED],
    request_class=RequestClass.UPLOAD,
)
async def declare_attachments(identity: Identity, request: Request[NewAttachments]) -> Answer:
    """Declare files, and get the requests that upload their parts to the object store.

    The object store takes no other bytes than those that you have declared. An upload that neither a message nor an
    avatar has taken a day later is given up.
    """
    tickets = await request.services.transfers.upload(
        identity.user, files_of(request.body), is_avatar=request.body.is_avatar
    )
    return Answer(upload_body(tickets, request.encoding), 201)


@routes.read(
    "GET /v1/attachments/<uuid:attachment>/parts",
    query=PartsQuery,
    answer=MissingPartsAnswer,
    problems=[ProblemCode.NO_OBJECT_STORE, ProblemCode.UNKNOWN_ATTACHMENT],
    request_class=RequestClass.UPLOAD,
)
async def get_missing_parts(identity: Identity, request: Request[PartsQuery], attachment: UUID) -> Answer:
    """Get the parts of an upload that are missing, with the requests that upload them.

    So an upload goes on after an interruption, and gets the requests that no earlier answer had.
    """
    missing = await request.services.transfers.parts(identity.user, attachment.bytes, request.query.after)
    return Answer(missing_body(missing))


@routes.write(
    "POST /v1/attachments/<uuid:attachment>/complete",
    announces=NOTHING,
    problems=[ProblemCode.NO_OBJECT_STORE, ProblemCode.UNKNOWN_ATTACHMENT, ProblemCode.ATTACHMENT_INCOMPLETE],
    request_class=RequestClass.UPLOAD,
)
async def complete_attachment(identity: Identity, request: Request[None], attachment: UUID) -> Answer:
    """Complete an upload with its thumbnail, once all parts are in the object store.

    The server compares them with the declaration. From then on a message can take the attachment, or an avatar can
    be set to it. Repeating it changes nothing.
    """
    await request.services.transfers.complete(identity.user, [attachment.bytes])
    return NO_CONTENT


@routes.write(
    "DELETE /v1/attachments/<uuid:attachment>",
    announces=NOTHING,
    problems=[ProblemCode.NO_OBJECT_STORE, ProblemCode.UNKNOWN_ATTACHMENT, ProblemCode.ATTACHMENT_USED],
    request_class=RequestClass.UPLOAD,
)
async def abort_attachment(identity: Identity, request: Request[None], attachment: UUID) -> Answer:
    """Give up an upload that neither a message nor an avatar has, with its thumbnail.

    From then on it is unknown.
    """
    await request.services.transfers.abort(identity.user, [attachment.bytes])
    return NO_CONTENT


@routes.write(
    "POST /v1/attachments/downloads",
    body=WantedDownloads,
    announces=NOTHING,
    answer=DownloadTicketsAnswer,
    problems=[ProblemCode.NO_OBJECT_STORE],
    request_class=RequestClass.READ,
)
async def get_downloads(identity: Identity, request: Request[WantedDownloads]) -> Answer:
    """Get the URLs of attachments whose messages you may read, and of avatars that you may see.

    Others are left out of the answer: those that do not exist, and those that are not for you.
    """
    wanted = [each.bytes for each in request.body.attachments]
    tickets = await request.services.transfers.download(identity.user, wanted)
    return Answer(downloads_body(tickets, request.encoding))
