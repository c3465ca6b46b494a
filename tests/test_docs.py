"""Documents that repeat what code says are compared with it."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from protocol import limits
from protocol.codec import OPTIONAL, decode_from_client, decode_from_server, encode
from protocol.codes import CloseCode, ErrorCode
from protocol.frames import PUSHES, REPLIES, REQUESTS, Key
from protocol.session import TRANSITIONS, State
from store.config import Config

ROOT = Path(__file__).parent.parent
SPEC = (ROOT / "protocol" / "SPEC.md").read_text()
CDDL = (ROOT / "protocol" / "alo.cddl").read_text()
README = (ROOT / "README.md").read_text()


def test_spec_has_every_error_code() -> None:
    rows = [f"| `{code.value}` | {code.info.meaning} | {'yes' if code.info.retry else 'no'} |" for code in ErrorCode]
    assert "\n".join(rows) in SPEC


def test_spec_has_every_close_code() -> None:
    rows = []
    for code in CloseCode:
        again = f"yes, within {code.info.delay_s:g} s" if code.info.reconnect else "no"
        rows.append(f"| {code.value} | `{code.name.lower()}` | {code.info.meaning} | {again} |")
    assert "\n".join(rows) in SPEC


def test_spec_has_the_state_table() -> None:
    rows = []
    for state in State:
        cells = [_outcome(TRANSITIONS[state][request]) for request in REQUESTS]
        rows.append(f"| {state.value} | {' | '.join(cells)} |")
    assert "\n".join(rows) in SPEC


def _outcome(outcome: State | ErrorCode | CloseCode) -> str:
    match outcome:
        case State():
            return f"-> {outcome.value}"
        case ErrorCode():
            return f"error `{outcome.value}`"
        case CloseCode():
            return f"close {outcome.value}"


def test_spec_and_cddl_have_every_frame_with_its_fields() -> None:
    for struct in (*REQUESTS, *REPLIES, *PUSHES):
        name = struct.TYPE.name.lower()
        listed = [f"({field})" if Key[field.upper()] in OPTIONAL else field for field in struct.__struct_fields__]
        assert f"| {int(struct.TYPE)} | `{name}` | {', '.join(listed)} |" in SPEC
        rule = re.search(rf"^{name.replace('_', '-')} = {{\n(.*?)^}}", CDDL, re.MULTILINE | re.DOTALL)
        assert rule, name
        keys = [(bool(optional), int(key)) for optional, key in re.findall(r"^  (\? )?(\d+) =>", rule[1], re.MULTILINE)]
        wanted = [(Key[field.upper()] in OPTIONAL, int(Key[field.upper()])) for field in struct.__struct_fields__]
        assert keys == [(False, 0), *wanted], name


def test_spec_has_every_key() -> None:
    for key in Key:
        assert f"| {int(key)} | {key.name.lower()} | " in SPEC


def test_spec_states_the_limits() -> None:
    stated = (
        limits.MAX_CONTENT_BYTES,
        limits.MAX_NONCE_BYTES,
        limits.MAX_PUBLIC_KEY_BYTES,
        limits.MAX_WEBSOCKET_MESSAGE_BYTES,
        limits.MAX_IN_FLIGHT,
        limits.MAX_MARKS,
        limits.MAX_FRAMES,
        limits.MAX_FRAGMENTS,
        limits.MAX_FIELDS,
        limits.MAX_REQUEST,
    )
    for limit in stated:
        assert re.search(rf"\b{limit}\b", SPEC), limit


def test_examples_of_the_spec_are_frames() -> None:
    """Each decodes, and what it decodes to encodes to the same bytes."""
    examples = re.findall(r"^    ([0-9a-f]{8,})$", SPEC, re.MULTILINE)
    assert len(examples) == 14
    for text in examples:
        data = bytes.fromhex(text)
        decode = decode_from_client if data[2] in range(1, 64) and data[2] != 0x18 else decode_from_server
        assert b"".join(encode(frame) for frame in decode(data)) == data  # type: ignore[arg-type]


def test_readme_has_every_variable_with_its_default() -> None:
    for field in fields(Config):
        default = field.default
        shown = f"{default:g}" if isinstance(default, float) else str(default)
        cell = rf"`{re.escape(shown)}` " if shown else ""
        assert re.search(rf"^\| `{field.name.upper()}` \| {cell}\|", README, re.MULTILINE), field.name
