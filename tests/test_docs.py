"""Documents that repeat what code says are compared with it."""

from __future__ import annotations

import configparser
import json
import re
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path
from typing import Any

import cbor2
import pytest

from client import VERSION
from client.__main__ import DEFAULT_HTTP_URL, DEFAULT_SOCKET_URL
from jobs.engine import consumer_group, fetcher, streams
from jobs.mail import smtp
from jobs.notifiers import calls
from jobs.tasks import debounce, forget, notices, retention
from protocol import features, limits
from protocol.codec import OPTIONAL, OPTIONAL_IN, decode_from_client, decode_from_server, encode
from protocol.codes import CloseCode, ErrorCode
from protocol.errors import RemoteProtocolError, RequestError
from protocol.frames import (
    PUSHES,
    REPLIES,
    REQUESTS,
    Conversation,
    Key,
    Message,
    Participant,
    Stay,
    Tombstone,
    Type,
    name_of,
)
from protocol.session import TRANSITIONS, State
from server.cluster import catch_up, cursor_advance, unknown_outcomes
from server.delivery import receipt_counts
from server.gateway import delivery_times, readers, revocations
from server.transport import outbox
from store import accounts, analytics, conversations, jobs, latencies, notifiers, sync
from store.batching import two_lanes
from store.redis import directory
from tests.protocol.make_states import diagram
from tests.protocol.strategies import RECORDS, Record, as_map, full
from tests.runtime.make_configuration import CONFIGURATION
from tests.runtime.make_configuration import page as configuration

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
    """What the table says of a field is what the codec takes in every frame that has it."""
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
    """Values that are just allowed by a cell of the table, and values that just are not."""
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
    "`message` or `tombstone` frame": (
        [as_map(full(Message)), as_map(full(Tombstone))],
        [as_map(full(Conversation)), {}],
    ),
}
_CELL = re.compile(
    r"^(id|seq|time|milliseconds|boolean|number|visible ASCII text|text|opaque bytes|array|"
    r"`message` or `tombstone` frame)\b"
    r"(?:,? (?:of )?(?:at most )?(\d+)(?: to (\d+))?)?"
)


def _is_read(struct: type[Record], key: int, value: Any) -> bool:
    item = as_map(full(struct)) | {key: value}
    if struct is Participant:
        item = as_map(full(Conversation)) | {int(Key.PARTICIPANTS): [item]}
    if struct is Stay:
        item = as_map(full(Conversation)) | {int(Key.FORMER): [item]}
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
BASIC_FIELDS = {"client", "features", "limits"}
"""These frames and later fields need no feature: section 11.1 names the basics, and both sides ignore unknown keys."""


def test_each_request_and_each_later_field_belongs_to_a_feature_unless_it_is_basic() -> None:
    """A client must not use a frame or field whose feature a server does not list, so there has to be one to list."""
    named = set(re.findall("`([a-z_]+)`", " ".join(features.FEATURES.values())))
    assert {name_of(request) for request in REQUESTS} - BASIC_REQUESTS <= named
    assert {key.name.lower() for key in Key if key > Key.LIFETIME_S} - BASIC_FIELDS <= named


def test_spec_states_the_limits_that_have_no_name() -> None:
    for stated in (
        f"more than {limits.MAX_FIELDS} fields",
        f"more than {limits.MAX_NESTING} levels",
        f"more than {limits.MAX_FRAMES} of its",
        f"at most {limits.MAX_SERVER_NESTING} levels",
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
        assert stated in re.sub(r"\s+", " ", SPEC), stated


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


def test_the_chapter_for_clients_names_each_field_of_a_conversation() -> None:
    """Fields of it count by four different rules."""
    table = SPEC[SPEC.index("### 17.3") : SPEC.index("### 17.4")]
    [row] = re.findall(r"^\| `conversation` \|.*$", table, re.MULTILINE)
    assert {*Conversation.__struct_fields__} == {*re.findall(r"`([a-z_]+)`", row)}


def test_examples_of_the_spec_are_frames() -> None:
    """Each decodes, and what it decodes to encodes to the same bytes; each frame has one."""
    shown = set()
    for text in re.findall(r"^    ([0-9a-f]{8,})$", SPEC, re.MULTILINE):
        data = bytes.fromhex(text)
        frames = list((decode_from_client if data[2] < Type.ERROR and data[2] != 0x18 else decode_from_server)(data))
        assert b"".join(map(encode, frames)) == data  # type: ignore[arg-type]
        shown |= set(map(type, frames))
    assert shown == {*REQUESTS, *REPLIES, *PUSHES}


def test_the_diagram_of_the_states_is_that_of_the_table() -> None:
    assert (ROOT / "docs" / "states.md").read_text() == diagram(), (
        "renew it with `python -m tests.protocol.make_states`"
    )


def test_the_page_of_configuration_has_every_variable_with_its_default_and_meaning() -> None:
    assert configuration() == CONFIGURATION.read_text(), "python -m tests.runtime.make_configuration writes it"


def documents() -> list[Path]:
    """Each Markdown file of the repository."""
    folders = [folder for folder in ROOT.iterdir() if folder.is_dir() and folder.name not in (".venv", "var")]
    found = [*ROOT.glob("*.md"), *(file for folder in folders for file in folder.rglob("*.md"))]
    return sorted(file for file in found if "node_modules" not in file.parts)


_FILE = re.compile(r"(?:[\w.-]+/)*[\w.-]+\.(?:cddl|cfg|html|js|json|lua|md|mjs|py|sql|toml|txt)")
_FOLDER = re.compile(rf"(?:{'|'.join(folder.name for folder in ROOT.iterdir() if folder.is_dir())})/(?:[\w.-]+/)*")
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
UNTRACKED = (".venv/", "client/js/node_modules/", "var/")


def test_each_file_that_a_document_names_exists() -> None:
    """By its path from the repository's root, or from the document's own folder or one below it."""
    for document in documents():
        text, name = document.read_text(), document.relative_to(ROOT)
        spans = [span for span in re.findall(r"`([^`\n]+)`", text) if _FILE.fullmatch(span) or _FOLDER.fullmatch(span)]
        for path in [span for span in spans if not span.startswith(UNTRACKED)] + _LINK.findall(text):
            is_here = (ROOT / path).exists() or (document.parent / path).exists()
            assert is_here or next(document.parent.rglob(path), None), f"{name}: {path}"


def test_each_command_that_a_document_names_exists() -> None:
    targets = {*re.findall("^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)}
    for document in documents():
        text, name = document.read_text(), document.relative_to(ROOT)
        assert {*re.findall(r"(?:`|^    )make ([a-z]+)", text, re.MULTILINE)} <= targets, name
        for module in re.findall(r"python -m ([\w.]+)", text):
            assert find_spec(module), f"{name}: {module}"


def test_the_version_is_the_same_wherever_it_stands() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    package = json.loads((ROOT / "client" / "js" / "package.json").read_text())
    assert setup["metadata"]["version"] == VERSION == package["version"]
    assert f"'alo-js/{VERSION}'" in (ROOT / "client" / "js" / "client.js").read_text()


@pytest.mark.parametrize("document", ["README.md", "docs/terminal-client.md"])
def test_a_document_has_the_variables_of_the_client_with_their_defaults(document: str) -> None:
    text = re.sub(r"\s+", " ", (ROOT / document).read_text())
    for name, default in (("ALO_HTTP_URL", DEFAULT_HTTP_URL), ("ALO_SOCKET_URL", DEFAULT_SOCKET_URL)):
        assert f"`{name}` (default `{default}`" in text


def test_the_readme_fits_on_two_screens() -> None:
    assert len(README.splitlines()) <= 100


def test_the_reading_order_lists_each_document() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / path).resolve() for path in _LINK.findall(index.read_text())}
    assert {*index.parent.glob("*.md")} - {index} <= linked
    assert {*ROOT.glob("*.md")} - {ROOT / "CHANGELOG.md"} <= linked


def test_the_index_of_decisions_lists_each_with_its_title() -> None:
    index = ROOT / "docs" / "decisions" / "README.md"
    decisions = sorted(file for file in index.parent.glob("*.md") if file != index)
    lines = []
    for number, file in enumerate(decisions, 1):
        title = file.read_text().partition("\n")[0]
        assert title.startswith(f"# {number}. "), file.name
        assert file.name.startswith(f"{number:04}-"), file.name
        lines.append(f"{number}. [{title.removeprefix(f'# {number}. ')}]({file.name})")
    assert re.findall(r"^\d+\. \[.*$", index.read_text(), re.MULTILINE) == lines


NUMBERS = {
    "docs/decisions/0001-catch-up-instead-of-fan-out-marks.md": (
        f"when its lease ends ({directory.LEASE_S:g} s)",
        f"Messages of the last {catch_up.MARGIN_S:g} s",
    ),
    "docs/decisions/0002-one-outbox-row-becomes-notices.md": (
        f"up to one poll ({debounce.POLL_S:g} s)",
        f"takes its job over after {consumer_group.TAKE_OVER_AFTER_S:g} s",
        f"or after {jobs.LEASE_S:g} s",
    ),
    "docs/decisions/0006-opaque-tokens.md": (f"For {accounts.TOKEN_KEPT_DAYS} days",),
    "docs/decisions/0009-a-cursor-is-a-snapshot.md": (
        f"With more than {sync.MAX_UNDER_WAY} the cursor",
        f"at most {limits.MAX_CURSOR_BYTES:,} bytes",
        f"good for {limits.CURSOR_DAYS} days",
        f"up to {limits.MAX_PAGES} pages ahead",
        f"each {sync.MAX_BYTES // 1024} KiB",
        f"a node, {cursor_advance.SETTLE_S:g} s old",
    ),
    "docs/decisions/0010-a-lagging-reader-pulls.md": (
        f"more than {outbox.MAX_BYTES // 1024**2} MiB waits",
        f"nothing at all for {outbox.STUCK_S:g} s",
    ),
    "docs/decisions/0011-nodes-ask-for-revocations.md": (
        f"asks each {revocations.POLL_S:g} s",
        f"(and {revocations.MARGIN_S:g} s more",
    ),
    "docs/decisions/0012-a-temp-id-tells-its-age.md": (
        f"for {limits.TEMP_ID_DAYS} days from that time",
        f"deletes {forget.BATCH:,} keys",
    ),
    "docs/decisions/0013-two-lanes-of-sends.md": (
        f"waits {two_lanes.LOCK_WAIT_S:g} s in line",
        f"has been there for {two_lanes.PATIENCE_S:g} s",
    ),
    "docs/decisions/0017-receipts.md": (
        f"With more than {limits.MAX_SHOWN} participants",
        f"every {receipt_counts.INTERVAL_S:g} s at most",
        f"the last {receipt_counts.MAX_MESSAGES} messages",
        f"the last {limits.COUNTED}, fresh or resumed",
        f"the latest {limits.MAX_FORMER} ended stays",
    ),
    "docs/decisions/0019-one-redis-or-two.md": (f"({catch_up.MARGIN_S:g} s) leave gaps",),
    "docs/decisions/0020-a-job-for-each-notifier.md": (
        f"reads {calls.MAX_ANSWER_BYTES // 1024} KiB of an answer, within {calls.TIMEOUT_S:g} s",
        f"failed for {notices.FORGET_AFTER_S / 86400:g} days and {notices.FORGET_AFTER} attempts",
    ),
    "docs/decisions/0021-mail.md": (
        f"at most {smtp.MAX_THREADS} threads",
        f"has a deadline ({smtp.STEP_TIMEOUT_S:g} s), and so has the whole mail ({smtp.TIMEOUT_S:g} s)",
    ),
    "docs/decisions/0023-floors-by-time.md": (f"deleted, {retention.MAX_MESSAGES} a transaction",),
    "docs/decisions/0024-counted-at-the-outbox.md": (
        f"one of {delivery_times.SAMPLE} messages",
        f"buckets, {latencies.PER_DECADE} for each power of ten",
        f"at most {latencies.BUCKETS} rows",
        f"old rows of activity after {analytics.ACTIVITY_DAYS} days",
    ),
    "docs/decisions/0025-jobs-are-rows-and-redis-wakes.md": (
        f"after {jobs.FRESH_LEASE_S:g} s if it was enqueued",
        f"after {jobs.LEASE_S:g} s in any other case",
        f"at most {streams.MAX_HANDED:,} entries",
        f"every {fetcher.POLL_S:g} s",
    ),
    "docs/decisions/0026-an-unknown-outcome-is-made-certain.md": (
        f"look every {unknown_outcomes.LOOK_S:g} s",
        f"for more than {catch_up.MARGIN_S:g} s",
    ),
    "docs/decisions/0027-one-notice-until-the-user-is-back.md": (
        f"after {notifiers.LOOK_LEAST_S:g} s, then",
        f"Every {readers.PATIENCE_S:g} s a gateway",
        f"for {notifiers.NOTICE_KEPT_S / 86400:g} days",
    ),
    "docs/decisions/0029-requests-and-withheld-participants.md": (
        f"begin {conversations.STARTS_PER_DAY} conversations",
        f"Above {limits.MAX_SHOWN} participants",
    ),
}
"""Document -> phrases with the values of constants."""


@pytest.mark.parametrize("document", NUMBERS)
def test_a_document_states_the_numbers_of_the_code(document: str) -> None:
    text = re.sub(r"\s+", " ", (ROOT / document).read_text())
    assert [phrase for phrase in NUMBERS[document] if phrase not in text] == []


def test_the_architecture_has_the_layers_of_the_contracts() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for contract in ("layers", "server", "store", "jobs"):
        layers = setup[f"importlinter:contract:{contract}"]["layers"].split("\n")
        names = ["query modules" if " : " in layer else layer for layer in layers if layer]
        assert "  >  ".join(names) in text, contract


def test_troubleshooting_names_events_that_the_code_logs() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    cells = re.findall(r"^\|.*\| ([^|]*) \|$", text[: text.index("### In Postgres")], re.MULTILINE)
    events = {*re.findall(r"`(\w+)`", " ".join(cells))}
    code = "".join(file.read_text() for folder in ("server", "store") for file in (ROOT / folder).rglob("*.py"))
    assert len(events) > 15
    assert {event for event in events if f'"{event}"' not in code} == set()


def test_the_glossary_is_sorted_and_has_each_word_once() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text()
    words = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", text, re.MULTILINE)[1:]
    assert len(words) > 60
    assert words == sorted(set(words))
