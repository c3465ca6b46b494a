"""A database of the service before this one, for each test that asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import count

import psycopg
import pytest

from embedded.postgres import PostgresServer
from tests.conftest import database_of
from tests.store.imports.old_world import SCHEMA, OldWorld

_numbers = count(1)


@pytest.fixture(scope="session")
def old_template(postgres_with_template: PostgresServer) -> PostgresServer:
    with psycopg.connect(postgres_with_template.url, autocommit=True) as connection:
        connection.execute("create database old_template")
    with psycopg.connect(database_of(postgres_with_template, "old_template"), autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
    return postgres_with_template


@pytest.fixture
def old(old_template: PostgresServer) -> Iterator[OldWorld]:
    name = f"old_{next(_numbers)}"
    with psycopg.connect(old_template.url, autocommit=True) as connection:
        connection.execute(f"create database {name} template old_template strategy file_copy".encode())
        with closing(OldWorld(database_of(old_template, name))) as world:
            yield world
        connection.execute(f"drop database {name} with (force)".encode())
