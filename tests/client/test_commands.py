from __future__ import annotations

import re

import pytest

from client.chat import COMMANDS
from client.commands import Command, NotPossible, help_lines, read_line
from tests.rows import each_row
from tests.sentences import fault_of


async def _nothing(_: object, __: str) -> None: ...


TABLE: list[Command[object]] = [
    Command("/add", "NAME", "add somebody", _nothing),
    Command("/mute", "[HOURS]", "be left alone", _nothing),
    Command("/leave", "", "go", _nothing),
]


@each_row(
    ("line", "text"),
    [
        ("hello", "hello"),
        ("  hello ", "  hello "),
        ("a /leave", "a /leave"),
        ("//leave", "/leave"),
        (" //leave //x", " /leave //x"),
        ("///", "//"),
        ("//", "/"),
    ],
)
def test_a_line_that_does_not_begin_with_one_slash_is_a_message(line: str, text: str) -> None:
    assert read_line(line, TABLE) == text


@pytest.mark.parametrize(
    ("line", "name", "argument"),
    [
        ("/add bob", "/add", "bob"),
        ("  /add   bob and others ", "/add", "bob and others"),
        ("/mute", "/mute", ""),
        ("/mute 8", "/mute", "8"),
        ("/leave  ", "/leave", ""),
    ],
)
def test_a_command_is_found_with_what_comes_after_it(line: str, name: str, argument: str) -> None:
    read = read_line(line, TABLE)
    assert isinstance(read, tuple)
    assert (read[0].name, read[1]) == (name, argument)


@each_row(
    "line",
    ["/", "/ leave", "/addbob", "/ADD bob", "/add", "/add  ", "/leave now", "/unknown", "/\x1b[2J", "/" + "x" * 99],
)
def test_any_other_line_with_a_slash_is_refused_with_a_sentence(line: str) -> None:
    with pytest.raises(NotPossible) as refused:
        read_line(line, TABLE)
    assert fault_of(str(refused.value)) is None


def test_help_has_a_line_for_each_command_and_for_the_escape() -> None:
    assert help_lines(TABLE) == [
        "/add NAME      add somebody",
        "/mute [HOURS]  be left alone",
        "/leave         go",
        "//TEXT         send a message that begins with /",
    ]


def test_the_commands_of_a_chat_have_names_that_can_be_told_apart() -> None:
    names = [command.name for command in COMMANDS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("/[a-z-]+", name) for name in names)
