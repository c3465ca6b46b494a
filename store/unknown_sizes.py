"""Files of an import whose size was not known: the object store is asked when a client wants a ticket.

The size is noted then, so that the next ticket needs no question.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import structlog
import trio
from msgspec.structs import replace

from store import attachments
from store.attachments import Readable
from store.errors import ObjectMissing, StoreError
from store.objects.concurrent_calls import at_once
from store.objects.direct import FileStore
from store.postgres.pool import Pool

log = structlog.get_logger(__name__)

DEADLINE_S: Final = 2.0
"""For the questions of one request: without an answer, tickets are good all the same."""


async def with_sizes(pool: Pool, objects: FileStore, files: list[Readable]) -> list[Readable]:
    """The same files with the sizes that the object store tells, which are noted. A file without an answer in time
    keeps the size that it had, and the next ticket asks again.

    :raises Unavailable: if Postgres does not answer. An object store that fails raises nothing.
    """
    unsized = [each for each in files if not each.is_sized]
    if not unsized:
        return files
    sizes = await _ask(objects, unsized)
    if sizes:
        await attachments.note_sizes(pool, sizes)
    return [replace(each, size_bytes=sizes.get(each.id, each.size_bytes)) for each in files]


async def _ask(objects: FileStore, files: Sequence[Readable]) -> dict[bytes, int]:
    sizes: dict[bytes, int] = {}

    async def ask(file: Readable) -> None:
        with suppress(ObjectMissing):
            size_bytes = (await objects.stat(file.key)).size_bytes
            if size_bytes > 0:
                sizes[file.id] = size_bytes

    with trio.move_on_after(DEADLINE_S):
        try:
            await at_once(ask, files)
        except StoreError as error:
            log.warning("sizes_unknown", files=len(files) - len(sizes), error=str(error))
    return sizes
