from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.e2ee.keyring_world import KeyringWorld, cheap_passphrases, keyring_world
from tests.memory import in_memory


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_passphrases(monkeypatch.setattr)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[KeyringWorld]:
    with in_memory(tmp_path) as folder, keyring_world(folder) as world:
        yield world
