"""The service at `/files/`: a request with its limits and its ticket, and its answer or the problem.

The connection's own task serves it, past h11 and Quart, which would copy each byte through several queues. A ticket
admits whoever shows it: there is no token, and the path names no user.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from time import perf_counter
from typing import Final

import structlog
import trio
from msgspec import Struct

from runtime.log_context import SERVED
from runtime.open_files import HINT
from server.http.exchange import client_address, options, refused
from server.http.files.downloads import download
from server.http.files.progress import LEAST_BYTES, WINDOW_S, Stalled
from server.http.files.threads import LowPriorityThreads
from server.http.files.turns import TransferTurns
from server.http.files.uploads import upload
from server.http.files.wire import Wire
from server.http.limits import key_of
from server.http.problem_codes import ProblemCode
from server.http.problems import RETRY_AFTER_S, Problem
from server.http.request_classes import RequestClass
from server.http.request_headers import joined_headers
from server.http.request_ids import names_of
from server.http.services import Services
from server.transport.admission import ConnectionCounts
from store.errors import ObjectMissing, ObjectStoreRefused, Unavailable
from store.objects.folder import Folder
from store.objects.signed_urls import PATH

log = structlog.get_logger(__name__)

METHODS: Final = "GET, HEAD, OPTIONS, PUT"

MAX_TRANSFERS: Final = 512
"""Transfers of a process at a time; each has up to five open files. More are `unavailable`."""

FILES_EACH: Final = 5

ADDRESS_SHARE: Final = 4
"""One address (one /64 of IPv6) may have a quarter of the transfers: a client that takes its bytes as slowly as it may
(`progress`) holds each of them for hours, with a single ticket."""

LEAST_OF_ADDRESS: Final = 8
"""Where a process may have few files open, an address may have more than a quarter: two clients, each of which uploads
four parts at a time."""

FULL_RETRY_AFTER_S: Final = 60
"""An operator, or the clean-up, has to make room first."""

_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


class FileRequest(Struct, frozen=True):
    """A request at `/files/`.

    :ivar headers: joined, in lower case.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]

    @property
    def rule(self) -> str:
        """For the log: the path names no user, and the query has the signature."""
        return f"{self.method} {PATH}"


def file_service(services: Services, room: int) -> FileService | None:
    """The service of a deployment; None if its object store is no folder.

    :param room: files that the process may open for it.
    """
    if not isinstance(services.objects, Folder):
        return None
    return FileService(services, services.objects, min(MAX_TRANSFERS, room // FILES_EACH))


class FileService:
    """Serves the files of a folder.

    :ivar most: transfers at a time.
    """

    def __init__(self, services: Services, folder: Folder, most: int) -> None:
        self.most: Final = most
        self._services = services
        self._folder = folder
        # Uploads wait for the disk, one after the other; downloads have threads of their own, and do not wait for them.
        self._downloads, self._uploads = LowPriorityThreads(), LowPriorityThreads()
        self._turns = TransferTurns()
        self._transfers = 0
        self._of_address = ConnectionCounts[str](max(LEAST_OF_ADDRESS, most // ADDRESS_SHARE))

    def find(self, method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> FileRequest | None:
        """The request, if it is one at `/files/`.

        :param target: a path with its query.
        """
        if not target.startswith(PATH.encode()):
            return None
        path, _, query = target.decode("latin-1").partition("?")
        return FileRequest(method.decode(), path, query, joined_headers(headers))

    async def serve(self, request: FileRequest, wire: Wire) -> bool:
        """Answer the request; False if the connection cannot be used any more, since its client is gone or has stalled.
        Raises no error but cancellation."""
        headers = request.headers
        outside = SERVED.set(names_of(headers))
        requests, began, is_logged = self._services.request_log, perf_counter(), False
        try:
            await self._serve(request, wire)
            is_logged = True
            if request.method != "OPTIONS":  # `options` has logged it
                requests.answered(request.rule, wire.status or 200, perf_counter() - began, wire.body_bytes)
        except ConnectionError:
            return False
        except Exception as error:
            if wire.status is not None:
                if not isinstance(error, Stalled):
                    log.error("transfer_failed", route=request.rule, exc_info=error)
                return False
            await trio.sleep(self._services.limits.pause_s(error))
            reply = refused(_shown(error, request, self._folder), headers, self._services, request.rule)
            is_logged = True
            await wire.answer(reply, has_body=request.method != "HEAD")
        finally:
            if not is_logged:
                requests.gone(request.rule, perf_counter() - began)
            SERVED.reset(outside)
        return True

    async def _serve(self, request: FileRequest, wire: Wire) -> None:
        services, headers, method = self._services, request.headers, request.method
        address = client_address(wire.peer, headers, services)
        await services.limits.count_address(RequestClass.FILE, address)
        if method == "OPTIONS":
            await wire.answer(options(headers, METHODS, services))
            return
        if method not in ("GET", "HEAD", "PUT"):
            detail = f"this path takes {METHODS}"
            raise Problem(ProblemCode.METHOD_NOT_ALLOWED, detail, more_headers={"allow": METHODS})
        ticket = self._folder.signer.check(method, request.path, request.query)
        if self._transfers >= self.most:
            raise Problem(ProblemCode.UNAVAILABLE, "too many transfers at a time", retry_after_s=RETRY_AFTER_S)
        common = services.answer_headers.of(headers, names_of(headers))
        key = key_of(address)
        if not self._of_address.enter(key):
            detail = "too many transfers of this address at a time"
            raise Problem(ProblemCode.UNAVAILABLE, detail, retry_after_s=RETRY_AFTER_S)
        self._transfers += 1
        try:
            if method == "PUT":
                await upload(self._folder, self._uploads, self._turns, ticket, headers, common, wire)
            else:
                has_body = method == "GET"
                await download(
                    self._folder, self._downloads, self._turns, ticket, headers, common, wire, has_body=has_body
                )
        finally:
            self._transfers -= 1
            self._of_address.leave(key)


def _shown(error: Exception, request: FileRequest, folder: Folder) -> Exception:
    """The error as `server.http.problems` knows it."""
    match error:
        case ObjectMissing() if request.method == "PUT":
            return Problem(ProblemCode.UNKNOWN_UPLOAD, "the upload is complete, aborted or unknown")
        case ObjectMissing():
            return Problem(ProblemCode.UNKNOWN_FILE, "the file was deleted, or is not complete")
        case Stalled():
            detail = f"the body came too slowly: a client sends at least {LEAST_BYTES} bytes in {WINDOW_S:g} s"
            return Problem(ProblemCode.REQUEST_TIMEOUT, detail, retry_after_s=RETRY_AFTER_S)
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            return Unavailable("the object store", str(folder), HINT)
        case OSError() if error.errno in _FULL:
            log.error("object_store_full", folder=str(folder), error=str(error))
            detail = "the server has no room for the file"
            return Problem(ProblemCode.STORAGE_FULL, detail, retry_after_s=FULL_RETRY_AFTER_S)
        case OSError():
            return ObjectStoreRefused(str(folder), f"{error.strerror}: {error.filename}")
    return error
