"""Scenes: people and conversations that exist, for the requests that schemathesis makes.

The document's examples have ids, names and tokens that no database has. Each request gets those of a scene
(`tests.server.http.reference.scene`) in their place: so each example does what it shows. Of the paths with ids that
schemathesis makes up, half get the ids of the scene. A write that was done may have used the scene up (the device is
deleted, the user has left the group), so the next request gets a new one.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from zlib import crc32

import trio

from server.http.passwords import Passwords
from server.http.reference import examples
from server.http.reference.examples import EXAMPLES
from server.http.reference.operations import path_template
from server.http.routes import ROUTES
from server.http.routing import Access, Route
from store.objects.folder import Folder
from store.postgres.pool import Pool
from tests.server.http.reference.scene import OPS_TOKEN, as_found, purpose_of, scene

PLACEHOLDER: Final = "the-token-of-the-scene"
"""The token of the command line: schemathesis knows by it that a request shows a token."""

OPERATIONS: Final[dict[str, Route]] = {
    f"{route.method} {path_template(route)}": route for route in ROUTES if not route.is_web_client
}


class Scenes:
    """The scene of the next request, and the statuses of all answers so far."""

    def __init__(self, database_url: str, statuses: Path) -> None:
        self._database_url = database_url
        self._path = statuses
        self._statuses: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self._number = os.getpid() * 10_000  # The next process has the same database.
        self._hash = ""
        self._found: Mapping[str, str] = {}
        self._purpose = ""

    def prepare(self, operation: str) -> None:
        """Have a scene for a request of this operation. It blocks."""
        purpose = purpose_of(operation)
        if not self._found or self._purpose != purpose:
            self._number += 1
            self._purpose = purpose
            self._found = trio.run(self._make)

    async def _make(self) -> Mapping[str, str]:
        self._hash = self._hash or await Passwords().hash(examples.PASSWORD, source="a test")
        pool = Pool(self._database_url, 1)
        try:
            objects = Folder(Path(os.environ["CONTRACT_OBJECTS"]))
            return await scene(pool, self._number, self._hash, purpose=self._purpose, objects=objects)
        finally:
            pool.close()

    def token(self, operation: str) -> str:
        """The token that the operation asks for."""
        is_operators = operation in OPERATIONS and OPERATIONS[operation].access is Access.OPERATOR
        return OPS_TOKEN if is_operators else self._found["$TOKEN"]

    def path(self, operation: str, path: str) -> str:
        """The path of a request with the ids of the scene."""
        if operation in OPERATIONS and crc32(path.encode()) & 1:
            values = EXAMPLES[OPERATIONS[operation].rule].values
            parts, names = path.split("/"), operation.partition(" ")[2].split("/")
            if len(parts) == len(names):
                path = "/".join(values.get(name.strip("{}"), part) for name, part in zip(names, parts, strict=True))
        return self.text(path)

    def text(self, text: str) -> str:
        """A query or a body with the ids and names of the scene."""
        return as_found(text, self._number, self._found)

    def note(self, operation: str, status: int) -> None:
        """Count an answer, and write the counts to the file."""
        self._statuses[operation][status] += 1
        if 200 <= status < 300 and not operation.startswith("GET "):
            self._found = {}
        self._path.write_text(json.dumps(self._statuses))


def scenes_of_environment() -> Scenes:
    """As `tests.contract` says by environment variables to the process of schemathesis."""
    return Scenes(os.environ["CONTRACT_DATABASE_URL"], Path(os.environ["CONTRACT_STATUSES"]))
