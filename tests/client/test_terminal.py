from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from client.http import Credentials
from client.login import LoginFile
from client.terminal import MAX_LINE_BYTES, local_time, printable, read_lines


@settings(deadline=None)  # A busy machine must not fail the test.
@given(st.text())
def test_nothing_that_drives_a_terminal_gets_through(text: str) -> None:
    shown = printable(text)
    assert not any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in shown)
    assert len(shown.splitlines()) <= 1


def test_ordinary_text_stays_as_it_is() -> None:
    assert printable("Grüße, 你好 👩‍💻 \\x") == "Grüße, 你好 👩‍💻 \\x"
    assert printable("\x1b[2J\x07\n\x9b\u202e") == "\\x1b[2J\\x07\\n\\x9b\\u202e"


@pytest.mark.parametrize("created", [0, 1_700_000_000_000_000, 2**63 - 1])
def test_any_time_can_be_shown(created: int) -> None:
    assert local_time(created)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """(read end, write end); the test closes the write end."""
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)


async def lines_of(fd: int) -> list[str]:
    async with aclosing(read_lines(fd)) as lines:
        return [line async for line in lines]


async def test_lines_are_read_to_the_end_whatever_they_hold(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.write(writing, "ä\r\n\n".encode() + b"\xff\nlast")
    os.close(writing)
    assert await lines_of(reading) == ["ä", "", "\ufffd", "last"]


async def test_a_character_that_comes_in_two_reads_is_one(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    first, second = "ä".encode()[:1], "ä\n".encode()[1:]
    async with aclosing(read_lines(reading)) as lines, trio.open_nursery() as nursery:
        got: list[str] = []

        async def read() -> None:
            got.append(await anext(lines))

        nursery.start_soon(read)
        os.write(writing, first)
        await trio.testing.wait_all_tasks_blocked(0.05)
        os.write(writing, second)
    os.close(writing)
    assert got == ["ä"]


async def test_an_endless_line_comes_in_pieces(pipe: tuple[int, int]) -> None:
    reading, writing = pipe

    def write() -> None:
        os.write(writing, b"a" * (MAX_LINE_BYTES + 1)) and os.close(writing)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, write)
        lines = await lines_of(reading)
    assert "".join(lines) == "a" * (MAX_LINE_BYTES + 1)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


CREDENTIALS = Credentials(b"u" * 16, b"d" * 16, "token")
SERVER = "http://127.0.0.1:8000"


def test_a_login_is_kept_for_its_owner_alone(config: Path) -> None:
    assert LoginFile(SERVER, "ann").load() is None
    LoginFile(SERVER, "ann").save(Credentials(b"x" * 16, b"d" * 16, "old"))
    LoginFile(SERVER, "ann").save(CREDENTIALS)
    assert LoginFile(SERVER, "ann").load() == CREDENTIALS
    [folder] = (config / "alo-shield").iterdir()
    assert list(folder.iterdir()) == [LoginFile(SERVER, "ann").path]
    assert stat.S_IMODE(LoginFile(SERVER, "ann").path.stat().st_mode) == 0o600


@pytest.mark.parametrize("other", ["http://127.0.0.1:9000", "https://127.0.0.1:8000", "http://chat.example", ".."])
def test_a_login_is_of_one_server_and_kept_from_others(config: Path, other: str) -> None:
    """A server from `make run` on other ports must not get the first server's token, nor replace its login."""
    LoginFile(SERVER, "ann").save(CREDENTIALS)
    assert LoginFile(other, "ann").load() is None
    LoginFile(other, "ann").save(Credentials(b"o" * 16, b"d" * 16, "other"))
    assert LoginFile(SERVER, "ann").load() == LoginFile(SERVER + "/", "ann").load() == CREDENTIALS
    assert {path.name for path in config.iterdir()} == {"alo-shield"}


@pytest.mark.parametrize("name", ["../ann", "a/b", "..", ".", "/etc/passwd", "a\nb", "Ä"])
def test_a_login_stays_in_its_folder_whatever_the_name(config: Path, name: str) -> None:
    LoginFile(SERVER, name).save(CREDENTIALS)
    assert LoginFile(SERVER, name).load() == CREDENTIALS
    assert LoginFile(SERVER, name).path.resolve().parent.parent == config / "alo-shield"


def test_a_login_that_cannot_be_read_is_none(config: Path) -> None:
    LoginFile(SERVER, "ann").save(CREDENTIALS)
    LoginFile(SERVER, "ann").path.write_text('{"user": "zz"')
    assert LoginFile(SERVER, "ann").load() is None
    LoginFile(SERVER, "ann").path.write_text('{"user": "zz", "device": "zz", "token": "t"}')
    assert LoginFile(SERVER, "ann").load() is None
