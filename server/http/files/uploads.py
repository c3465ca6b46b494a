"""Uploads: the body of a PUT, streamed into a file. It counts once its digest was right and it is on the disk."""

from __future__ import annotations

import os
from collections.abc import Mapping

import trio

from server.http.exchange import Reply
from server.http.files.progress import Progress
from server.http.files.slices import BodyReceiver
from server.http.files.threads import Lease, LowPriorityThreads
from server.http.files.turns import TransferTurns
from server.http.files.wire import Wire
from server.http.problem_codes import ProblemCode
from server.http.problems import Problem
from server.http.request_headers import Headers
from store.objects.direct import Part
from store.objects.folder import Folder
from store.objects.folder_files import Sink
from store.objects.signed_urls import SignedUrl


async def upload(
    folder: Folder,
    threads: LowPriorityThreads,
    turns: TransferTurns,
    ticket: SignedUrl,
    headers: Headers,
    common: Mapping[str, str],
    wire: Wire,
) -> None:
    """Take the body, and answer.

    :param headers: of the request.
    :param common: the headers that all answers have.
    :raises Problem: if the body is not that of the ticket.
    :raises ObjectMissing: if the multipart upload is unknown, complete or aborted.
    :raises PartBusy: if another request is writing the part.
    :raises OSError: if the disk is full, or fails.
    :raises ConnectionError: if the client is gone.
    :raises Stalled: if it sends too little.
    """
    part = ticket.part
    assert part is not None
    _check_head(headers, part, wire)
    async with threads.lease() as lease:
        sink = await threads.run(lambda: _open(folder, ticket, lease), lease)
        if not (sink.is_there and wire.is_body_held_back):
            await wire.ask_for_body()
            receiver = await _receive(threads, turns, lease, wire, None if sink.is_there else sink, part)
            if not sink.is_there:
                if not receiver.has_digest(part.digest):
                    detail = "the SHA-256 of the body is not that of the ticket"
                    raise Problem(ProblemCode.WRONG_DIGEST, detail)
                await threads.run(sink.keep, lease)
    await wire.answer(Reply(200, dict(common), b""))


def _check_head(headers: Headers, part: Part, wire: Wire) -> None:
    """
    :raises Problem: if the head alone shows that the body is not that of the ticket.
    """
    if headers.get("content-range", ""):
        # RFC 9110, section 14.5: who ignores it would take a part of a file for the whole.
        raise Problem(ProblemCode.NO_CONTENT_RANGE, "a part is uploaded whole, without Content-Range")
    if wire.left is None or not headers.get("content-length", ""):
        raise Problem(ProblemCode.LENGTH_REQUIRED, f"send Content-Length: {part.size_bytes}, and no Transfer-Encoding")
    if wire.left != part.size_bytes:
        raise Problem(ProblemCode.WRONG_SIZE, f"the ticket is for {part.size_bytes} bytes, not {wire.left}")


def _open(folder: Folder, ticket: SignedUrl, lease: Lease) -> Sink:
    sink = folder.open_sink(ticket)
    lease.on_close(sink.close)
    return sink


async def _receive(
    threads: LowPriorityThreads, turns: TransferTurns, lease: Lease, wire: Wire, sink: Sink | None, part: Part
) -> BodyReceiver:
    socket = os.dup(wire.descriptor)
    lease.on_close(lambda: os.close(socket))
    receiver = BodyReceiver(socket, sink, part.size_bytes, turns.copies, turns.disk)
    progress = Progress()
    received = wire.take_received()
    await threads.run(lambda: receiver.take(received), lease)
    while receiver.left:
        before = receiver.left
        try:
            await threads.run(receiver.slice, lease)
        finally:
            wire.left = receiver.left
        progress.note(before - receiver.left)
        if receiver.left:
            with trio.move_on_at(progress.deadline):
                await trio.lowlevel.wait_readable(wire.descriptor)
            progress.check()
    return receiver
