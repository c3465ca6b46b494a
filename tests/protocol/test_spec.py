"""`protocol/SPEC.md` and `protocol/alo.cddl` agree with the tables of `protocol`, which they repeat."""

from __future__ import annotations

import re
from collections.abc import Iterable
from operator import itemgetter
from pathlib import Path
from typing import Any, get_args

import cbor2
import pytest

from protocol import features, limits
from protocol.codec import decode_from_client, decode_from_server, encode
from protocol.codes import CloseCode, ErrorCode
from protocol.errors import RemoteProtocolError, RequestError
from protocol.fields import OPTIONAL, OPTIONAL_IN
from protocol.frames import (
    PUSHES,
    REPLIES,
    REQUESTS,
    Bye,
    Conversation,
    DeviceList,
    Downloads,
    DownloadTicket,
    Frame,
    Hello,
    Key,
    ListedDevice,
    Message,
    Participant,
    Ping,
    Stay,
    Sync,
    Ticket,
    Tickets,
    Tombstone,
    Type,
    name_of,
)
from protocol.numbers import (
    EXPERIMENTAL_CLOSE_CODES,
    EXPERIMENTAL_KEYS,
    EXPERIMENTAL_PUSH_TYPES,
    EXPERIMENTAL_REPLY_TYPES,
    EXPERIMENTAL_REQUEST_TYPES,
    KEYS,
    PUSH_TYPES,
    REPLY_TYPES,
    REQUEST_TYPES,
)
from protocol.requests import BatchedRequest, QueuedRequest, TransferRequest
from protocol.states import TRANSITIONS, State
from tests.protocol.make_states import STATES, diagram
from tests.protocol.strategies import RECORDS, Record, as_map, full

PROTOCOL = Path(__file__).parents[2] / "protocol"
SPEC = (PROTOCOL / "SPEC.md").read_text()
TEXT = re.sub(r"\s+", " ", SPEC)
CDDL = (PROTOCOL / "alo.cddl").read_text()

KINDS = [
    (REQUESTS, REQUEST_TYPES, EXPERIMENTAL_REQUEST_TYPES),
    (REPLIES, REPLY_TYPES, EXPERIMENTAL_REPLY_TYPES),
    (PUSHES, PUSH_TYPES, EXPERIMENTAL_PUSH_TYPES),
]


def runs(numbers: Iterable[int]) -> str:
    """Numbers as SPEC.md lists them: "3, 4, 7 to 9 and 11"."""
    parts: list[str] = []
    run: list[int] = []
    for number in [*sorted(numbers), None]:
        if run and number != run[-1] + 1:
            parts += [f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run)
            run = []
        if number is not None:
            run.append(number)
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]


def test_runs_are_listed_as_a_reader_expects() -> None:
    assert runs([3]) == "3"
    assert runs([11, 3, 4, 7, 8, 9]) == "3, 4, 7 to 9 and 11"


def test_spec_says_which_types_and_keys_are_reserved() -> None:
    types = {number for _, kind, experimental in KINDS for number in {*kind} - {*experimental}} - {*Type}
    keys = {*KEYS} - {*EXPERIMENTAL_KEYS} - {*Key}
    assert f"Reserved for later versions: types {runs(types)}; keys {runs(keys)}." in TEXT


def test_spec_says_which_types_are_of_which_kind() -> None:
    requests, replies, pushes = (f"{kind[0]} to {kind[-1]}" for _, kind, _ in KINDS)
    assert f"Types {requests} are requests (client to server), {replies} replies, {pushes} pushes" in TEXT


def test_spec_says_which_numbers_are_for_experiments() -> None:
    types = runs(number for *_, experimental in KINDS for number in experimental)
    codes = runs(EXPERIMENTAL_CLOSE_CODES)
    assert f"Types {types}, keys {runs(EXPERIMENTAL_KEYS)}, close codes {codes}, and names that begin with `x_`" in TEXT


def test_no_number_or_name_of_the_protocol_is_one_for_experiments() -> None:
    for structs, kind, experimental in KINDS:
        assert {int(struct.TYPE) for struct in structs} <= {*kind} - {*experimental}
    assert {*Key} <= {*KEYS} - {*EXPERIMENTAL_KEYS}
    assert not {code.value for code in CloseCode} & {*EXPERIMENTAL_CLOSE_CODES}
    names = [code.value for code in ErrorCode] + features.NAMES + [name for name, _ in limits.told()]
    assert not [name for name in names if name.startswith("x_")]


def test_every_request_is_queued_or_batched_or_answered_at_once_and_spec_says_which() -> None:
    """Section 10.3. A new request has to be put into one of the unions of `protocol/requests.py`."""
    queued, transfers, batched = get_args(QueuedRequest), get_args(TransferRequest), get_args(BatchedRequest)
    assert sorted(map(name_of, (*queued, *transfers, *batched, Hello, Ping, Bye))) == sorted(map(name_of, REQUESTS))
    assert f"10.3 {listed(queued)} wait in one queue for each connection" in TEXT
    assert f"{listed(transfers)}, which may wait for the object store, have a second queue" in TEXT
    assert (
        f"server serves {listed(batched)} in batches, side by side with the queues, and answers `ping` at once" in TEXT
    )


def listed(structs: Iterable[type[Frame]]) -> str:
    """Frames in a sentence, in the order of their types."""
    names = [f"`{name_of(struct)}`" for struct in sorted(structs, key=lambda struct: struct.TYPE)]
    return f"{', '.join(names[:-1])} and {names[-1]}"


@pytest.mark.parametrize(("group", "structs"), [("from-client", REQUESTS), ("from-server", (*REPLIES, *PUSHES))])
def test_the_grammar_lists_every_frame_in_the_group_of_its_direction(
    group: str, structs: tuple[type[Frame], ...]
) -> None:
    [rule] = re.findall(rf"^{group} = (.*(?:\n    .*)*)", CDDL, re.MULTILINE)
    assert re.split(r"\s*/\s*", rule) == [name_of(struct).replace("_", "-") for struct in structs]


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
    rows = [f"| frame | {' | '.join(state.value for state in State)} |", f"|{'---|' * (1 + len(State))}"]
    for request in REQUESTS:
        cells = [_outcome(TRANSITIONS[state][request]) for state in State]
        rows.append(f"| `{request.TYPE.name.lower()}` | {' | '.join(cells)} |")
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
        optional = OPTIONAL | OPTIONAL_IN.get(struct, frozenset())
        listed = [f"({field})" if Key[field.upper()] in optional else field for field in struct.__struct_fields__]
        assert f"| {int(struct.TYPE)} | `{name}` | {', '.join(listed)} |" in SPEC
        rule = re.search(rf"^{name.replace('_', '-')} = {{\n(.*?)^}}", CDDL, re.MULTILINE | re.DOTALL)
        assert rule, name
        keys = [(bool(mark), int(key)) for mark, key in re.findall(r"^  (\? )?(\d+): ", rule[1], re.MULTILINE)]
        wanted = [(Key[field.upper()] in optional, int(Key[field.upper()])) for field in struct.__struct_fields__]
        assert sorted(keys, key=itemgetter(1)) == [(False, 0), *wanted], name


def test_spec_has_every_key_with_the_bounds_of_its_values() -> None:
    """In every frame that has a field, the codec takes the values that the table allows, and no others."""
    rows = re.findall(r"^\| (\d+) \| ([a-z_]+) \| (.+) \|$", SPEC, re.MULTILINE)
    assert [(int(key), name) for key, name, _ in rows] == [(int(key), key.name.lower()) for key in Key]
    for number, name, cell in rows[1:]:
        structs = [struct for struct in RECORDS if name in struct.__struct_fields__]
        assert structs, name
        for struct in structs:
            good, bad = _borders(cell, as_map(full(struct))[int(number)])
            for value in good:
                assert _is_read(struct, int(number), value), (struct, name, cell)
            for value in bad:
                assert not _is_read(struct, int(number), value), (struct, name, cell)


def _borders(cell: str, sample: Any) -> tuple[list[Any], list[Any]]:
    """The extreme values that a cell of the table allows, and the nearest values that it does not."""
    kind, *numbers = (int(part) if part.isdigit() else part for part in _CELL.findall(cell)[0] if part)
    match kind, numbers:
        case "array", []:
            return [sample], [sample[:-1], [*sample, 1]]
        case str(), []:
            return _BORDERS[kind]
        case "number", [least, most]:
            return [least, most], [least - 1, most + 1]
        case "visible ASCII text", [most]:
            return ["!", "~" * most], ["", "a" * (most + 1), "two words", "é", "\x7f"]
        case "text", [most]:
            return ["a", "a" * most, "é" * (most // 2)], ["", "a" * (most + 1), "é" * (most // 2 + 1), "\0"]
        case "opaque bytes", [most]:
            return [b"", bytes(most)], [bytes(most + 1)]
        case "opaque bytes", [least, most]:
            return [bytes(least), bytes(most)], [bytes(least - 1), bytes(most + 1)]
        case "array", [most]:
            return [[], sample[:1] * most], [sample[:1] * (most + 1)]
        case "array", [least, most]:
            return [sample[:1] * least, sample[:1] * most], [sample[:1] * (least - 1), sample[:1] * (most + 1)]
    raise AssertionError(cell)


_BORDERS: dict[str, tuple[list[Any], list[Any]]] = {
    "id": ([bytes(16)], [bytes(15), bytes(17)]),
    "seq": ([0, 2**63 - 1], [-1, 2**63]),
    "time": ([0, 2**63 - 1], [-1, 2**63]),
    "milliseconds": ([0, 2**32 - 1], [-1, 2**32]),
    "boolean": ([True, False], [0, 1]),
    "digest": ([bytes(32)], [bytes(31), bytes(33)]),
    "`message` or `tombstone` frame": (
        [as_map(full(Message)), as_map(full(Tombstone))],
        [as_map(full(Conversation)), {}],
    ),
}
_CELL = re.compile(
    r"^(id|seq|time|milliseconds|boolean|digest|number|visible ASCII text|text|opaque bytes|array|"
    r"`message` or `tombstone` frame)\b"
    r"(?:,? (?:of )?(?:at most )?(\d+)(?: to (\d+))?)?"
)


WITHIN: dict[type[Record], tuple[type[Frame], Key]] = {
    Participant: (Conversation, Key.PARTICIPANTS),
    Stay: (Conversation, Key.FORMER),
    Ticket: (Tickets, Key.TICKETS),
    DownloadTicket: (Downloads, Key.DOWNLOADS),
    ListedDevice: (DeviceList, Key.DEVICES),
}
"""Record that is no frame -> a frame that has it, and the field."""


def _is_read(struct: type[Record], key: int, value: Any) -> bool:
    item = as_map(full(struct)) | {key: value}
    if struct in WITHIN:
        frame_of, outer = WITHIN[struct]
        item = as_map(full(frame_of)) | {int(outer): [item]}
    decode = decode_from_client if struct in REQUESTS else decode_from_server
    try:
        [frame] = decode(cbor2.dumps(item))
    except RemoteProtocolError:
        return False
    return not isinstance(frame, RequestError)


def test_spec_has_every_limit_that_has_a_name() -> None:
    rows = [f"| `{limit.name}` | {limit.shown} | {limit.outcome} |" for limit in limits.NAMED]
    assert "\n".join(rows) in SPEC


def test_spec_has_every_size_that_a_welcome_tells() -> None:
    assert "\n".join(f"| `{size.name}` | {size.value} | {size.of} |" for size in limits.SIZES) in SPEC
    told = limits.told()
    assert told == sorted(told)
    assert len(dict(told)) == len(limits.NAMED) + len(limits.SIZES), "each name once"


def test_spec_has_every_feature() -> None:
    assert "\n".join(f"| `{name}` | {features.FEATURES[name]} |" for name in features.NAMES) in SPEC
    assert list(features.FEATURES) == sorted(features.FEATURES)
    assert all(re.fullmatch("[a-z]+(_[a-z]+)*", name) for name in features.FEATURES)


BASIC_REQUESTS = {"hello", "send", "mark_delivered", "mark_read", "sync", "history", "list", "refresh", "ping", "bye"}
BASIC_PUSHES = {"message", "conversation", "receipts", "lag"}
BASIC_FIELDS = {"client", "features", "limits"}
"""These frames and later fields need no feature: section 11.1 names the basics, and both sides ignore unknown keys."""


def test_each_request_push_and_later_field_belongs_to_a_feature_unless_it_is_basic() -> None:
    """A client must not use a frame or field whose feature the server does not list, so each needs a feature."""
    named = set(re.findall("`([a-z_]+)`", " ".join(features.FEATURES.values())))
    assert {name_of(request) for request in REQUESTS} - BASIC_REQUESTS <= named
    assert {name_of(push) for push in PUSHES} - BASIC_PUSHES <= named
    assert {key.name.lower() for key in Key if key > Key.LIFETIME_S} - BASIC_FIELDS <= named


def test_spec_states_the_limits_that_have_no_name() -> None:
    for stated in (
        f"more than {limits.MAX_FIELDS} fields",
        f"more than {limits.MAX_NESTING} levels",
        f"more than {limits.MAX_FRAMES} of its",
        f"at most {limits.MAX_SERVER_NESTING} levels",
        f"at most {limits.MAX_SERVER_FIELDS} fields",
        f"at most {limits.MAX_WEBSOCKET_MESSAGE_BYTES} bytes",
        f"at most {limits.MAX_FRAGMENTS} fragments",
        f"larger than {limits.MAX_PAGE_BYTES} bytes",
        f"`count` is {limits.DEFAULT_COUNT} if it is absent",
        f"after {limits.TYPING_S:g} s without another `typing`",
        f"sooner than {limits.TYPING_INTERVAL_S:g} s",
        f"`keep_alive_ms` ({limits.KEEP_ALIVE_S * 1000:g})",
        f"client has {limits.HELLO_TIMEOUT_S:g} s until",
        f"`{limits.SOCKET_PATH}`",
        f"`{limits.SUBPROTOCOL}`",
    ):
        assert stated in TEXT, stated


def test_references_of_the_spec_lead_to_a_section() -> None:
    there = set(re.findall(r"^(?:#+ )?(\d+(?:\.\d+){0,2})\.? ", SPEC, re.MULTILINE))
    text = re.sub(r"^ {4}.*", "", SPEC, flags=re.MULTILINE)  # pseudocode and bytes
    text = re.sub(r"RFC \d+,\s+section\s+[\d.]+|`[^`]*`|\d\.\d s\b", "", text)
    named = re.findall(r"(?<![\d.])\d{1,2}(?:\.\d{1,2}){1,2}(?!\.?\d)|(?<=[Ss]ection )\d+", text)
    assert len(named) > 150
    assert set(named) <= there


def test_the_chapter_for_clients_says_what_each_reply_and_push_does() -> None:
    table = SPEC[SPEC.index("### 17.3") : SPEC.index("### 17.4")]
    rows = " ".join(re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE))
    shown = set(re.findall(r"`([a-z_]+)`", rows))
    assert shown == {name_of(struct) for struct in (*REPLIES, *PUSHES)}


def test_the_chapter_for_clients_says_what_done_means_for_each_request_that_it_answers() -> None:
    assert all("nswered by" in (request.__doc__ or "") or request is Sync for request in REQUESTS)
    answered = {name_of(request) for request in REQUESTS if "nswered by `Done`" in (request.__doc__ or "")}
    table = SPEC[SPEC.index("### 17.3") : SPEC.index("### 17.4")]
    [row] = re.findall(r"^\| `done` \|.*$", table, re.MULTILINE)
    assert answered == {*re.findall(r"`([a-z_]+)`", row)} & {*map(name_of, REQUESTS)}


def test_the_chapter_for_clients_names_each_field_of_a_conversation() -> None:
    """Four different rules say which value of a field counts."""
    table = SPEC[SPEC.index("### 17.3") : SPEC.index("### 17.4")]
    [row] = re.findall(r"^\| `conversation` \|.*$", table, re.MULTILINE)
    assert {*Conversation.__struct_fields__} == {*re.findall(r"`([a-z_]+)`", row)}


def test_examples_of_the_spec_are_frames() -> None:
    """Each example decodes, and its frames encode to the same bytes; each kind of frame has an example."""
    shown = set()
    for text in re.findall(r"^    ([0-9a-f]{8,})$", SPEC, re.MULTILINE):
        data = bytes.fromhex(text)
        frames = list(
            (decode_from_client if (data[3] if data[2] == 0x18 else data[2]) < Type.ERROR else decode_from_server)(data)
        )
        assert b"".join(map(encode, frames)) == data  # type: ignore[arg-type]
        shown |= set(map(type, frames))
    assert shown == {*REQUESTS, *REPLIES, *PUSHES}


def test_the_diagram_of_the_states_is_that_of_the_table() -> None:
    assert STATES.read_text() == diagram(), "renew it with `python -m tests.protocol.make_states`"
