"""The tables of the JavaScript client against those of `protocol`, without Node: `make js` runs the client itself."""

from __future__ import annotations

import re
from pathlib import Path

from protocol import limits
from protocol.codes import CloseCode, ErrorCode
from protocol.frames import PUSHES, Key, Type, name_of

FOLDER = Path(__file__).parents[2] / "client" / "js"
TABLES = (FOLDER / "tables.js").read_text()

USUAL_DELAY_S = 5


def literal(name: str) -> str:
    """The text after `export const NAME =`, up to the end of its line or its brackets."""
    [found] = re.findall(
        rf"^export const {name} = (\{{.*?\}}|new Set\(.*?\)|'.*?'|[\d_]+)", TABLES, re.MULTILINE | re.DOTALL
    )
    return str(found)


def numbers(name: str) -> dict[str, int]:
    """A table of names or numbers to numbers."""
    return {key: int(value) for key, value in re.findall(r"(\w+): ([\d_]+)", literal(name))}


def test_the_types_and_keys_of_the_javascript_client_are_those_of_the_protocol() -> None:
    assert numbers("TYPES") == {type_.name.lower(): int(type_) for type_ in Type}
    assert numbers("KEYS") == {key.name.lower(): int(key) for key in Key}


def test_the_limits_of_the_javascript_client_are_those_of_the_protocol() -> None:
    told = dict(limits.told())
    assert numbers("LIMITS") == {name: told[name] for name in numbers("LIMITS")}
    assert int(literal("VERSION")) == limits.OLDEST_VERSION == limits.PROTOCOL_VERSION
    assert literal("SOCKET_PATH") == f"'{limits.SOCKET_PATH}'"
    assert literal("SUBPROTOCOL") == f"'{limits.SUBPROTOCOL}'"


def test_the_javascript_client_does_after_each_close_what_the_table_of_codes_says() -> None:
    """Codes from 4500 on end for good without being listed."""
    final = {code.value for code in CloseCode if code.value < 4500 and not code.info.reconnect}
    assert {int(code) for code in re.findall(r"\d+", literal("FINAL_CLOSES"))} == final
    others = {
        str(code.value): round(code.info.delay_s * 1000)
        for code in CloseCode
        if code.info.reconnect and code.info.delay_s != USUAL_DELAY_S
    }
    assert numbers("CLOSE_DELAYS_MS") == others


def test_the_javascript_client_drops_what_it_holds_after_the_errors_of_cursors() -> None:
    named = set(re.findall(r"'(\w+)'", literal("CURSOR_ERRORS")))
    assert named == {code.value for code in ErrorCode if code.value.startswith("cursor_")}


def test_the_javascript_client_does_something_with_each_push() -> None:
    [table] = re.findall(r"^  #pushes = \{$(.*?)^  \}$", (FOLDER / "client.js").read_text(), re.MULTILINE | re.DOTALL)
    assert sorted(re.findall(r"^    (\w+): ", table, re.MULTILINE)) == sorted(map(name_of, PUSHES))
