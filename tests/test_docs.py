"""Documents that repeat what code says are compared with it."""

from __future__ import annotations

import configparser
import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from client import VERSION
from client.cli.environment import DEFAULT_HTTP_URL, DEFAULT_SOCKET_URL
from jobs.engine import consumer_group, fetcher, streams, task, worker
from jobs.mail import smtp
from jobs.notifiers import calls
from jobs.tasks import debounce, forget, notices, retention
from protocol import limits
from protocol.codes import CloseCode
from protocol.frames import REQUESTS, name_of
from runtime.config import Config
from runtime.open_files import OTHER_FILES
from server.cluster import catch_up, cursor_advance, unknown_outcomes
from server.delivery import fanout, hub, receipt_counts, sequencer
from server.gateway import delivery_times, readers, recent_changes, revocations
from server.http import compression, conditional
from server.http.app import BODY_TIMEOUT_S
from server.http.hypercorn_seam import DRAIN_S, FLUSH_BYTES, HEAD_S, KEEP_ALIVE_S, MAX_REQUESTS, WRITE_S
from server.http.open_connections import MAX_CONNECTIONS
from server.http.parsing import MAX_LEVELS
from server.http.problem_codes import MAX_BODY_BYTES, MAX_HEAD_BYTES
from server.transport import outbox
from store import analytics, conversations, emails, jobs, latencies, notifiers, sync, tokens
from store.batching import fair_queue, two_lanes
from store.redis import directory
from tests.rows import each_row
from tests.runtime.make_configuration import CONFIGURATION
from tests.runtime.make_configuration import page as configuration

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_page_of_configuration_has_every_variable_with_its_default_and_meaning() -> None:
    assert configuration() == CONFIGURATION.read_text(), "python -m tests.runtime.make_configuration writes it"


REACH_NO_OTHER_USER = {"hello", "refresh", "ping", "bye", "sync", "history", "list"}
REACH_NO_OTHER_USER |= {"upload", "parts", "complete", "download", "abort"}
"""Requests that act on the user's own connection, or read what the requests of the page have changed."""


def test_the_page_of_blocking_says_of_each_request_whether_it_reaches_another_user() -> None:
    page = (ROOT / "docs" / "blocking.md").read_text()
    assert {name for request in REQUESTS if f"`{(name := name_of(request))}`" not in page} == REACH_NO_OTHER_USER


def documents() -> list[Path]:
    """Each Markdown file of the repository."""
    folders = [folder for folder in ROOT.iterdir() if folder.is_dir() and folder.name not in (".venv", "var")]
    found = [*ROOT.glob("*.md"), *(file for folder in folders for file in folder.rglob("*.md"))]
    return sorted(file for file in found if "node_modules" not in file.parts)


_FILE = re.compile(r"(?:[\w.-]+/)*[\w.-]+\.(?:cddl|cfg|html|js|json|lua|md|mjs|py|sql|toml|txt)")
_FOLDER = re.compile(rf"(?:{'|'.join(folder.name for folder in ROOT.iterdir() if folder.is_dir())})/(?:[\w.-]+/)*")
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
MAX_PICTURE_BYTES = 150_000
NODE_PACKAGES = [
    f"{folder}/node_modules/" for folder in ("bench/peers/node", "client/js", "client/web", "tests/browser")
]
UNTRACKED = (".venv/", *NODE_PACKAGES, "var/")


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


def test_each_picture_is_small_and_shown_by_a_document() -> None:
    pictures = {*(ROOT / "docs" / "images").iterdir()}
    assert {file.name for file in pictures if file.stat().st_size > MAX_PICTURE_BYTES} == set()
    shown = {(file.parent / path).resolve() for file in documents() for path in _LINK.findall(file.read_text())}
    assert pictures <= shown


def test_the_reading_order_lists_each_document() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / path).resolve() for path in _LINK.findall(index.read_text())}
    assert {*index.parent.glob("*.md")} - {index} <= linked
    assert {*ROOT.glob("*.md")} - {ROOT / "CHANGELOG.md"} <= linked


def test_the_index_of_decisions_lists_each_with_its_title() -> None:
    index = ROOT / "docs" / "decisions" / "README.md"
    decisions = sorted(file for file in index.parent.glob("*.md") if file != index)
    lines = []
    for file in decisions:
        number, title = int(file.name.partition("-")[0]), file.read_text().partition("\n")[0]
        assert title.startswith(f"# {number}. "), file.name
        lines.append(f"{number}. [{title.removeprefix(f'# {number}. ')}]({file.name})")
    assert re.findall(r"^\d+\. \[.*$", index.read_text(), re.MULTILINE) == lines


NUMBERS = {
    "docs/guarantees.md": (
        f"remembered for {limits.TEMP_ID_DAYS} days",
        f"at most every {cursor_advance.INTERVAL_S:g} s",
        f"A cursor of more than {limits.CURSOR_DAYS} days",
        f"its outbox ({outbox.MAX_BYTES // 1024**2} MiB)",
        f"takes nothing for {outbox.STUCK_S:g} s",
        f"for longer than {catch_up.MARGIN_S:g} s",
        f"(`READ_NOTICE_AFTER_S`, {Config().read_notice_after_s / 60:g} minutes)",
    ),
    "docs/deployment.md": (
        f"a connection that was idle for {KEEP_ALIVE_S:g} s",
        f"time-out below {KEEP_ALIVE_S:g} s",
        f"a silent connection after {limits.KEEP_ALIVE_S:g} s, and closes it after {2 * limits.KEEP_ALIVE_S:g} s",
    ),
    "docs/jobs.md": (
        f"finishes running jobs ({worker.DRAIN_S:g} s)",
        f"they are kept for {forget.DEAD_JOBS_DAYS} days",
        f"again after {consumer_group.TAKE_OVER_AFTER_S:g} s",
        f"at most {task.MAX_PAYLOAD_BYTES:,} bytes of JSON",
        f"one look of {fetcher.LOWEST_FIRST} begins",
    ),
    "docs/troubleshooting.md": (
        f"stays locked for {two_lanes.PATIENCE_S:g} s",
        f"the message waits {sequencer.PATIENCE_S:g} s",
        f"{fanout.MAX_WAITING:,} pushes wait",
        f"takes nothing for {outbox.STUCK_S:g} s",
        f"every {cursor_advance.INTERVAL_S:g} s the node",
    ),
    "docs/decisions/0001-catch-up-instead-of-fan-out-marks.md": (
        f"when its lease ends ({directory.LEASE_S:g} s)",
        f"Messages of the last {catch_up.MARGIN_S:g} s",
    ),
    "docs/decisions/0002-one-outbox-row-becomes-notices.md": (
        f"up to one poll ({debounce.POLL_S:g} s)",
        f"takes its job over after {consumer_group.TAKE_OVER_AFTER_S:g} s",
        f"or after {jobs.LEASE_S:g} s",
    ),
    "docs/decisions/0006-opaque-tokens.md": (f"For {tokens.TOKEN_KEPT_DAYS} days",),
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
        f"(and {recent_changes.MARGIN_S:g} s more",
    ),
    "docs/decisions/0012-a-temp-id-tells-its-age.md": (
        f"for {limits.TEMP_ID_DAYS} days from that time",
        f"deletes {forget.BATCH:,} keys",
    ),
    "docs/decisions/0013-two-lanes-of-sends.md": (
        f"waits {two_lanes.LOCK_WAIT_S:g} s in line",
        f"has been there for {two_lanes.PATIENCE_S:g} s",
    ),
    "docs/decisions/0014-what-is-kept-and-checked.md": (f"and every {conditional.HISTORY_KEPT_S:g} s, a process",),
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
    "docs/decisions/0040-a-users-cost-on-a-node.md": (
        f"{limits.MAX_BAD_FRAMES} bad frames close the connection ({CloseCode.TOO_MANY_BAD_FRAMES.value})",
        f"unless {hub.TURN_COST:,} deliveries were made",
        f"at most {fair_queue.MAX_SOURCE_BYTES // 1024} KiB from one user",
        f"A cursor moves {cursor_advance.SETTLE_S:g} s after its snapshot",
        f"has waited for {hub.BEHIND_S:g} s, and when more than {hub.MAX_WAITING_COST:,} deliveries wait",
        f"may fill {conversations.PLACES_PER_DAY:,} places in groups",
    ),
    "docs/decisions/0030-compression-at-the-fastest-level.md": (
        f"above {compression.MIN_BYTES:,} bytes",
        f"above {compression.LEAST_PROBED // 1024} KiB two samples of {compression.PROBED_BYTES // 1024} KiB",
        f"saves less than {compression.LEAST_SAVING:.0%}".replace("%", " %"),
    ),
    "docs/http.md": (
        f"above {compression.MIN_BYTES:,} bytes are compressed",
        f"open for {KEEP_ALIVE_S:g} s without a request and for {MAX_REQUESTS:,}",
        f"A head has at most {MAX_HEAD_BYTES // 1024} KiB and a body {MAX_BODY_BYTES // 1024} KiB",
        f"A head must come within {HEAD_S:g} s",
        f"and a body within {BODY_TIMEOUT_S:g} s",
        f"at most {limits.MAX_ADDRESS_CONNECTIONS:,} connections to a process",
        f"at most {emails.MAX_ASKED} mails an hour",
        f"and {emails.MAX_TO_MAILBOX} a day to those of one mailbox",
        f"send the rest within {DRAIN_S:g} s",
        f"at most {MAX_LEVELS} levels",
    ),
    "docs/decisions/0039-what-strangers-may-hold.md": (
        f"at most {MAX_CONNECTIONS:,} connections",
        f"A head has {HEAD_S:g} s, a body {BODY_TIMEOUT_S:g} s, an answer {WRITE_S:g} s for {FLUSH_BYTES // 1024} KiB",
        f"{emails.MAX_TO_MAILBOX} a day",
    ),
    "docs/configuration.md": (
        f"keep {OTHER_FILES} files for themselves",
        f"has {MAX_CONNECTIONS:,} connections",
    ),
}
"""Document -> phrases with the values of constants."""


@each_row("document", NUMBERS)
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
    cells = re.findall(r"^\|(?:[^|]*\|){4} ([^|]*) \|[^|]*\|$", text[: text.index("### In Postgres")], re.MULTILINE)
    events = {*re.findall(r"`(\w+)`", " ".join(cells))}
    code = "".join(file.read_text() for folder in ("server", "store") for file in (ROOT / folder).rglob("*.py"))
    assert len(events) > 15
    assert {event for event in events if f'"{event}"' not in code} == set()


def test_the_page_of_operations_names_events_that_the_code_logs() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    logs = text[text.index("## Logs") :]
    events = {*re.findall(r"^\| `(\w+)` \| (?:debug|info|warning|error)", logs, re.MULTILINE)}
    folders = ("jobs", "runtime", "server", "store")
    code = "".join(file.read_text() for folder in folders for file in (ROOT / folder).rglob("*.py"))
    assert len(events) >= 10
    assert {event for event in events if not re.search(rf'log\.\w+\(\s*"{event}"', code)} == set()


def test_the_glossary_is_sorted_and_has_each_word_once() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text()
    words = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", text, re.MULTILINE)[1:]
    assert len(words) > 60
    assert words == sorted(set(words))


REPLACED = {
    "catalogue": "registry",
    "crew": "runner",
    "doubt": "unknown outcome",
    "member": "participant",
    "membership": "participants",
    "settling": "acknowledger",
    "surroundings": "monitor",
    "taker": "fetcher",
    "tide": "cursor advance",
    "twin": "duplicate",
}
"""Word -> the word of the glossary that has taken its place. A participant's role is still 'member' or 'admin', and
libraries of MLS have names of their own."""
_SOURCES = (".cddl", ".cfg", ".html", ".js", ".lua", ".md", ".mjs", ".py", ".sql", ".toml", ".txt")
_SOURCES_WITHOUT_SUFFIX = ("Makefile", "Procfile", ".ci/run")
_OTHERS = re.compile(r"""['"`]+member['"`]+|\b(?:add|remove)_members\b|\bnewMember\b""")
_WORD = re.compile("[A-Z]?[a-z]+|[A-Z]+")


def test_replaced_words_do_not_come_back() -> None:
    """Neither as words nor as parts of names."""
    folders = [folder for folder in ROOT.iterdir() if folder.is_dir() and folder.name not in (".git", ".venv", "var")]
    files = [file for folder in folders for file in folder.rglob("*.*") if "node_modules" not in file.parts]
    found = {}
    without_suffix = {ROOT / name for name in _SOURCES_WITHOUT_SUFFIX}
    for file in sorted({*files, *ROOT.glob("*.*"), *without_suffix} - {Path(__file__)}):
        if (file.suffix in _SOURCES and file.is_file()) or file in without_suffix:
            words = {word.lower() for word in _WORD.findall(_OTHERS.sub("", file.read_text()))}
            if used := REPLACED.keys() & (words | {word.removesuffix("s").removesuffix("ed") for word in words}):
                found[str(file.relative_to(ROOT))] = used
    assert found == {}
