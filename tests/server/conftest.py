from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from embedded.postgres import PostgresServer
from tests.conftest import migrated_postgres
from tests.memory import in_memory
from tests.server.quick_hashes import use_quick_hashes
from tests.standby import NOT_FSYNCED, Standby

# A deadline per example would test the machine; tests that bound work count the work instead.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# Before any module of tests here takes the hasher by its name.
use_quick_hashes()


@pytest.fixture
def primary(tmp_path: Path, migrated_data: Path) -> Iterator[PostgresServer]:
    """A Postgres with commits that wait for its standby, if it must have one."""
    with in_memory(tmp_path) as folder, migrated_postgres(migrated_data, folder / "primary", NOT_FSYNCED) as postgres:
        yield postgres


@pytest.fixture
def standby(primary: PostgresServer, tmp_path: Path) -> Iterator[Standby]:
    with in_memory(tmp_path) as folder:
        standby = Standby(folder / "standby", primary, settings=NOT_FSYNCED)
        standby.start()
        try:
            yield standby
        finally:
            standby.stop()
