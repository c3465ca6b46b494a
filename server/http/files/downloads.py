"""Downloads: a file, or a range of it, as an answer, sent by the kernel from the file to the socket."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

import trio

from server.http.exchange import Reply
from server.http.files.progress import Progress
from server.http.files.ranges import NoSuchRange, asked_range, is_held
from server.http.files.slices import RangeSender
from server.http.files.threads import Lease, LowPriorityThreads
from server.http.files.turns import TransferTurns
from server.http.files.wire import Wire
from server.http.problem_codes import ProblemCode
from server.http.problems import Problem
from server.http.request_headers import Headers
from store.objects.folder import Folder
from store.objects.folder_files import OpenObject
from store.objects.signed_urls import SignedUrl

ALWAYS: Final[Mapping[str, str]] = {
    "content-type": "application/octet-stream",
    "content-disposition": "attachment",
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; sandbox",
    "accept-ranges": "bytes",
}
"""Headers of each file: it is ciphertext, or was sent by a stranger, and no browser may show or run it."""

OF_PICTURES: Final[Mapping[str, str]] = {
    "content-disposition": "inline",
    # The pages of clients are of other origins.
    "cross-origin-resource-policy": "cross-origin",
}
"""Headers of public avatars, instead of those: browsers show them as what their media type says, and nothing else."""


async def download(
    folder: Folder,
    threads: LowPriorityThreads,
    turns: TransferTurns,
    ticket: SignedUrl,
    headers: Headers,
    common: Mapping[str, str],
    wire: Wire,
    *,
    has_body: bool,
) -> None:
    """Answer GET, or HEAD without a body.

    :param headers: of the request.
    :param common: the headers that all answers have.
    :raises Problem: if the range lies beyond the file.
    :raises ObjectMissing: if there is no such file.
    :raises ConnectionError: if the client is gone, which the connection is for, too.
    :raises Stalled: if it takes too little.
    """
    async with threads.lease() as lease:
        found = await threads.run(lambda: _open(folder, ticket.key, lease), lease)
        # A ticket has a URL of its own, so a cache is right as long as the ticket may be used.
        cached = f"private, max-age={int(ticket.left_s)}, immutable"
        shown = {**common, **ALWAYS, "cache-control": cached, "etag": f'"{found.tag}"'}
        if ticket.shown_as is not None:
            shown |= {**OF_PICTURES, "content-type": ticket.shown_as}
        if is_held(headers, found.tag):
            del shown["content-type"]
            await wire.answer(Reply(304, shown, b""))
            return
        try:
            extent = asked_range(headers, found.tag, found.size_bytes) if has_body else None
        except NoSuchRange:
            raise _no_such_range(found.size_bytes) from None
        if extent is None:
            status, start, size_bytes = 200, 0, found.size_bytes
        else:
            status, start, size_bytes = 206, extent.start, extent.size_bytes
            shown["content-range"] = f"bytes {start}-{start + size_bytes - 1}/{found.size_bytes}"
        await wire.begin_answer(status, shown, size_bytes)
        if has_body:
            socket = os.dup(wire.descriptor)
            lease.on_close(lambda: os.close(socket))
            await _send(threads, lease, RangeSender(socket, found.descriptor, start, size_bytes, turns.copies), wire)


def _open(folder: Folder, key: str, lease: Lease) -> OpenObject:
    found = folder.open_object(key)
    lease.on_close(found.close)
    return found


async def _send(threads: LowPriorityThreads, lease: Lease, sender: RangeSender, wire: Wire) -> None:
    progress = Progress()
    while True:
        await threads.run(sender.slice, lease)
        if not sender.left:
            return
        # By what the client has received: the kernel takes bytes ahead, and takes more only when much of it has gone.
        progress.note_total(sender.acknowledged())
        while not await _has_room(wire, progress):
            progress.note_total(sender.acknowledged())
            progress.check()


async def _has_room(wire: Wire, progress: Progress) -> bool:
    """Wait until the kernel takes more, or the deadline has passed; whether it takes more."""
    with trio.move_on_at(progress.deadline):
        await trio.lowlevel.wait_writable(wire.descriptor)
        return True
    return False


def _no_such_range(size_bytes: int) -> Problem:
    shown = {"content-range": f"bytes */{size_bytes}"}
    return Problem(ProblemCode.RANGE_NOT_SATISFIABLE, f"the file has {size_bytes} bytes", more_headers=shown)
