"""The boundaries hold: the order of imports, one file for each driver, and one place for each kind of push."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from store.errors import StoreError, Unavailable
from store.redis.client import RedisError
from tests.rows import checked_rows, each_row

ROOT = Path(__file__).parent.parent
PACKAGES = ("bench", "client", "demo", "embedded", "jobs", "protocol", "runtime", "server", "store")

DRIVERS = {
    "psycopg": {"store/postgres/copying.py", "store/postgres/driver.py"},
    "hiredis": {"store/redis/link.py", "store/redis/servers.py"},
    "redis": set(),
    "trio_websocket": {"server/transport/handshake.py", "client/connection.py", "client/websocket.py"},
    "quart": {"server/http/app.py"},
    "quart_trio": {"server/http/app.py"},
    "hypercorn": {"server/http/hypercorn_seam.py"},
    "brotli": {"server/http/compression.py"},
    "isal": {"server/http/compression.py"},
    "backports": {"server/http/compression.py"},
    "compression": {"server/http/compression.py"},
    "argon2": {"client/e2ee/vault.py", "server/http/passwords.py"},
    "bcrypt": {"server/http/bcrypt_hashes.py"},
    "zxcvbn_rs_py": {"server/http/password_rules.py"},
    "precis_i18n": {"runtime/usernames.py", "server/http/password_rules.py"},
    "jinja2": {"jobs/mail/wording.py", "server/http/reference/page.py"},
    "smtplib": {"jobs/mail/smtp.py"},
    "idna": {"runtime/email_address.py"},
    "http_ece": {"jobs/notifiers/web_push.py"},
    "py_vapid": {"jobs/notifiers/web_push.py"},
    "tqdm": {"client/progress.py", "store/cli/import_progress.py"},
    "httpcore": {"jobs/notifiers/guard.py"},
    "opentelemetry": {"runtime/tracing/tracer.py"},
    "sentry_sdk": {"runtime/sentry.py"},
    "sqlite3": {"client/e2ee/vault.py"},
    "vodozemac": {"client/e2ee/vodozemac_ratchets.py"},
}
"""Top-level module of a driver -> the files that may meet it, benchmarks and tests aside."""


@cache
def tree_of(file: Path) -> ast.Module:
    """A file's tree. No test changes it."""
    return ast.parse(file.read_text())


@cache
def nodes_of(file: Path) -> tuple[ast.AST, ...]:
    """All nodes of a file's tree, parents before children."""
    return tuple(ast.walk(tree_of(file)))


@cache
def imports_of(file: Path) -> frozenset[str]:
    """The top-level names of everything that a file imports."""
    found: set[str] = set()
    for node in nodes_of(file):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return frozenset(found)


def files() -> list[Path]:
    return [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]


def test_one_file_meets_each_driver() -> None:
    with checked_rows() as rows:
        for driver, expected in DRIVERS.items():
            with rows.row(driver):
                meeting = {str(file.relative_to(ROOT)) for file in files() if driver in imports_of(file)}
                assert {name for name in meeting if not name.startswith("bench/")} == expected


FROM_THE_DRIVER = {
    # Query modules mark an id or a column as a parameter by these.
    "store": {"PostgresConnection", "bigints", "byteas", "connected", "is_url", "texts", "uuid", "uuids"},
    # Whether DATABASE_URL can be read at all; `store/cli` asks it of the source of an import.
    "runtime": {"is_url"},
}
"""Package -> its imports from `store.postgres.driver`, outside `store/postgres`. Others import nothing of it."""


@pytest.mark.parametrize("package", sorted({*PACKAGES} - {"bench"}))
def test_errors_of_postgres_driver_stay_in_its_folder(package: str) -> None:
    """Callers catch errors of `store.errors`; a query module marks parameters, and knows nothing else of the driver."""
    for file in sorted((ROOT / package).rglob("*.py")):
        if not file.is_relative_to(ROOT / "store" / "postgres"):
            imported = names_from(file, "store.postgres.driver")
            assert imported <= FROM_THE_DRIVER.get(package, set()), file


def names_from(file: Path, module: str) -> set[str]:
    """The names that a file imports from a module; the module's own name if it imports the module itself."""
    found: set[str] = set()
    parent, _, name = module.rpartition(".")
    for node in nodes_of(file):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & {module}
        elif isinstance(node, ast.ImportFrom) and node.module == module:
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == parent:
            found |= {alias.name for alias in node.names} & {name}
    return found


def test_no_error_is_told_apart_by_its_text() -> None:
    """`RedisError.code` and `DatabaseError.sqlstate` say what kind an error is; texts are for people."""
    for package in ("jobs", "runtime", "server", "store"):
        for file in sorted((ROOT / package).rglob("*.py")):
            assert not list(_asked_of_texts(tree_of(file))), file


def _asked_of_texts(tree: ast.AST) -> Iterator[int]:
    """The lines that look for something in `str(error)`, by the names that errors and replies have here."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="startswith" | "endswith", value=text)):
                asked = text
            case ast.Compare(comparators=[text], ops=[ast.In() | ast.NotIn()]):
                asked = text
            case _:
                continue
        match asked:
            case ast.Call(func=ast.Name(id="str"), args=[ast.Name(id="error" | "reply")]):
                yield node.lineno


def test_a_question_to_an_errors_text_is_found() -> None:
    lines = """
        str(error).startswith(("NOGROUP", "ERR"))
        not str(reply).startswith("NOGROUP")
        "OOM" in str(error)
        str(error).split()
        error.code == "OOM"
    """
    assert sorted(_asked_of_texts(ast.parse(dedent(lines)))) == [2, 3, 4]


NAMED_TWICE = {
    # A request of the chat protocol, and a control frame of RFC 6455; each specification calls its own so.
    "Ping": {"protocol/requests.py", "protocol/websocket.py"},
    "Pong": {"protocol/replies.py", "protocol/websocket.py"},
}
"""Public classes that share their names -> their files."""


def test_each_public_class_has_a_name_of_its_own() -> None:
    """One name, one thing: a reader who looks for a class finds one."""
    assert shared_names(files()) == NAMED_TWICE


def test_each_class_of_the_tests_has_a_name_of_its_own() -> None:
    """A helper that two files need lies in a module that both import; two different things have two names."""
    assert shared_names((ROOT / "tests").rglob("*.py")) == {}


def test_a_world_that_tests_share_lies_in_a_file_of_its_name() -> None:
    worlds = {
        name: file.stem
        for file in (ROOT / "tests").rglob("*.py")
        for name in classes_of(file)
        if name.endswith("World")
    }
    assert worlds == {name: f"{name.removesuffix('World').lower()}_world" for name in worlds}


def shared_names(files: Iterable[Path]) -> dict[str, set[str]]:
    """The names that several classes have, with the files of these."""
    places: dict[str, list[str]] = {}
    for file in files:
        for name in classes_of(file):
            places.setdefault(name, []).append(str(file.relative_to(ROOT)))
    return {name: set(found) for name, found in places.items() if len(found) > 1}


def classes_of(file: Path) -> list[str]:
    """The names of a file's classes, but for private ones."""
    nodes = nodes_of(file)
    return [node.name for node in nodes if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]


TABLES = [
    "server",
    *(f"server/{folder}" for folder in ("cluster", "delivery", "gateway", "http", "transport")),
    "store",
    *(f"store/{folder}" for folder in ("batching", "cli", "imports", "objects", "postgres", "redis")),
]
"""Folders whose `__init__.py` describes their modules in a table."""


@each_row("folder", TABLES)
def test_a_folder_s_table_names_each_of_its_modules_once(folder: str) -> None:
    path = ROOT / folder
    rows = [line for line in (path / "__init__.py").read_text().splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    modules = [file.stem for file in path.glob("*.py") if not file.stem.startswith("__")]
    folders = [file.parent.name for file in path.glob("*/__init__.py")]
    assert sorted(named) == sorted(modules + folders)


def test_no_test_fetches_rows_without_columns() -> None:
    """The driver returns no rows of a query that selects no column: to compare them with [] cannot fail."""
    for file in (ROOT / "tests").rglob("*.py"):
        assert not re.search(r'fetch\(\s*f?"select from', file.read_text()), file


def test_tests_wait_by_the_functions_of_tests_waiting_alone() -> None:
    waits = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "tests").rglob("*.py")
        for node in nodes_of(file)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and re.fullmatch("wait_until\\w*", node.name)
    }
    assert waits == {"tests/waiting.py"}


def test_no_test_sleeps() -> None:
    """`wait_until` waits for something to happen; `let_pass` says which time is to pass. 0 only lets others run."""
    sleeping = {str(file.relative_to(ROOT)) for file in (ROOT / "tests").rglob("*.py") if _sleeps(tree_of(file))}
    assert sleeping == {"tests/waiting.py"}


def _sleeps(tree: ast.AST) -> list[int]:
    """The lines that sleep for more than 0 s, or import a function that does."""
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="sleep"), args=[ast.Constant(value=0)]):
                continue
            case ast.Call(func=ast.Attribute(value=ast.Name(id="trio" | "time"), attr="sleep")):
                found.append(node.lineno)
            case ast.ImportFrom(module="trio" | "time", names=names) if any(name.name == "sleep" for name in names):
                found.append(node.lineno)
    return found


def test_a_sleep_is_found() -> None:
    lines = "await trio.sleep(0)\ntime.sleep(0.1)\nnode.sleep(1)\nawait trio.sleep(LEASE_S)\nfrom time import sleep"
    assert sorted(_sleeps(ast.parse(lines))) == [2, 4, 5]


def test_asyncio_is_nowhere() -> None:
    assert not [file for file in files() if "asyncio" in imports_of(file)]


def test_nothing_imports_the_tests() -> None:
    assert not [file for file in files() if "tests" in imports_of(file)]


def test_layers_hold() -> None:
    """The contracts in setup.cfg: server, jobs -> store -> protocol; client -> protocol; the protocol is sans-IO."""
    call = "lint_imports(config_filename='setup.cfg', no_cache=True)"
    command = f"import sys; from importlinter.cli import lint_imports; sys.exit({call})"
    result = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_protocol_imports_nothing_that_does_io() -> None:
    allowed = {"__future__", "cbor2", "collections", "enum", "io", "msgspec", "protocol", "secrets", "typing"} | {
        # Tables alone.
        "unicodedata"
    }
    for file in (ROOT / "protocol").rglob("*.py"):
        assert KIT in file.parents or imports_of(file) <= allowed, file


KIT = ROOT / "protocol" / "conformance"


def test_the_conformance_kit_does_its_io_by_trio_and_knows_the_protocol_alone() -> None:
    """Authors of clients run it without the server: it needs the packages of the protocol, and Trio."""
    packages = {"cbor2", "msgspec", "protocol", "trio"}
    for file in KIT.rglob("*.py"):
        assert imports_of(file) <= packages | sys.stdlib_module_names, file


def test_no_other_module_of_the_protocol_knows_the_conformance_kit() -> None:
    for file in files():
        if KIT not in file.parents:
            imported = {node.module for node in nodes_of(file) if isinstance(node, ast.ImportFrom) and node.module}
            assert not [module for module in imported if module.startswith("protocol.conformance")], file


PUSHING = {
    ("hub", "push"): {"server/delivery/broadcast.py"},
    ("hub", "flush"): {"server/delivery/broadcast.py"},
    ("fanout", "send"): {"server/delivery/broadcast.py"},
    ("fanout", "send_recheck"): {"server/delivery/broadcast.py"},
    ("fanout", "flush"): {"server/delivery/broadcast.py"},
    # The other nodes know of these pushes: they came from one of them, or each reads them from Postgres by itself.
    ("broadcast", "push_here"): {"server/cluster/node.py"},
    ("broadcast", "push_found"): {"server/cluster/catch_up.py", "server/gateway/revocations.py"},
    ("hub", "push_now"): {"server/delivery/broadcast.py"},
    ("hub", "push_to_synced"): {"server/cluster/catch_up.py"},
    ("hub", "skip"): {"server/cluster/catch_up.py"},
    # Pushes for one connection: its cursor, and the presence that it watches.
    ("outbox", "push"): {"server/delivery/hub.py"},
    ("outbox", "push_latest"): {"server/delivery/hub.py", "server/cluster/presence.py"},
    ("outbox", "push_cursor"): {"server/cluster/cursor_advance.py"},
}
"""Object, method -> the files that may call it. Only `Broadcast` reaches the devices on all nodes."""

PUSHERS = {"Hub": "hub", "Fanout": "fanout", "Broadcast": "broadcast", "Outbox": "outbox"}
"""Class -> the name that its objects have everywhere in the server, with or without an underscore before it."""


def test_a_push_for_this_node_alone_is_made_by_the_files_listed_and_no_others() -> None:
    """Anywhere else it would be lost to the devices on other nodes."""
    calling: dict[tuple[str, str], set[str]] = {}
    for file in sorted((ROOT / "server").rglob("*.py")):
        tree = tree_of(file)
        assert not list(_misnamed(tree)), f"{file.relative_to(ROOT)}: {list(_misnamed(tree))}"
        for called in _calls(tree):
            calling.setdefault(called, set()).add(str(file.relative_to(ROOT)))
    assert {called: calling.get(called) for called in PUSHING} == PUSHING


def test_the_streams_of_nodes_are_written_by_the_files_listed_and_no_others() -> None:
    publishing = {
        str(file.relative_to(ROOT))
        for file in files()
        for node in nodes_of(file)
        if isinstance(node, ast.ImportFrom) and node.module == "store.redis.bus"
        if any(alias.name == "publish" for alias in node.names)
    }
    assert publishing == {
        "server/delivery/fanout.py",
        "server/cluster/presence.py",
        "jobs/tasks/retention.py",
        "jobs/tasks/account_deletions.py",
        # Questions of operators, which carry no push.
        "store/redis/questions.py",
    }


ADDRESSING = "store/redis/addressing.py"
NODES_OF_USERS = {
    # A node asks about single users as well: whether they are anywhere, or here. An operator asks where they are.
    ("store.redis.directory", "locate"): {"server/cli/messages.py"},
    ("store.redis.directory", "locate_some"): {
        ADDRESSING,
        "server/cluster/presence.py",
        "server/cluster/missed_pushes.py",
    },
    ("store.redis.directory", "locate_watchers"): {ADDRESSING},
    ("store.redis.entries", "encode_pushes"): {ADDRESSING},
    ("store.redis.entries", "encode_presence_hint"): {ADDRESSING},
    ("store.redis.entries", "encode_presence_recheck"): {ADDRESSING},
}
"""Module, function -> the files that import it: those that look up the nodes of users, and write entries for each."""


def test_users_are_grouped_by_node_in_one_file() -> None:
    """A second one would have to look up the nodes of users, and to encode an entry for each node."""
    with checked_rows() as rows:
        for (module, name), expected in NODES_OF_USERS.items():
            with rows.row((module, name)):
                seen_as = {name, module, module.rpartition(".")[2]}
                importing = {str(file.relative_to(ROOT)) for file in files() if seen_as & names_from(file, module)}
                assert importing == expected


def _calls(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Each call of a method: the last name of its object, without an underscore before it, and the method."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = _last_name(node.func.value)
            if name is not None:
                yield name, node.func.attr


def _misnamed(tree: ast.AST) -> Iterator[str]:
    """Names that an object of `PUSHERS` has, where `_calls` would not know it by them."""
    for node in ast.walk(tree):
        match node:
            case ast.arg(annotation=kind):
                name: str | None = node.arg.lstrip("_")
            case ast.AnnAssign(annotation=kind):
                name = _last_name(node.target)
            case ast.Assign(targets=[target], value=ast.Call(func=kind)):
                name = _last_name(target)
            case ast.Assign(targets=[target], value=value):
                # A second name for the same object.
                kind, name = None, _last_name(target)
                if _last_name(value) in PUSHERS.values() and name != _last_name(value):
                    yield f"{name}, line {node.lineno}"
            case _:
                continue
        if kind is not None and (meant := _kind_of(kind)) is not None and name != meant:
            yield f"{name}, line {node.lineno}"


def _kind_of(annotation: ast.AST) -> str | None:
    names = [node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)]
    is_plain = isinstance(annotation, ast.Name | ast.BinOp)
    return next((PUSHERS[name] for name in names if name in PUSHERS), None) if is_plain else None


def _last_name(node: ast.AST) -> str | None:
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name.lstrip("_")
    return None


def test_a_pusher_under_another_name_is_found() -> None:
    tree = ast.parse("def f(hub: Hub, room: Hub | None):\n    self._mailbox = Outbox()\n    b = hub\n    b.push(1)")
    assert sorted(_misnamed(tree)) == ["b, line 3", "mailbox, line 2", "room, line 1"]
    assert list(_calls(ast.parse("self._hub.push(1)\nclient.outbox.flush()\nf()"))) == [
        ("hub", "push"),
        ("outbox", "flush"),
    ]


def test_no_test_reaches_into_a_private_attribute() -> None:
    """What a test needs to see of an object is public, a property or in its `statistics()`."""
    for file in sorted((ROOT / "tests").rglob("*.py")):
        private = list(_private(tree_of(file)))
        assert not private, f"{file.relative_to(ROOT)}: {private}"


ALLOWED_PRIVATE = {
    # Public in spite of their names: methods and fields of named tuples.
    *("_replace", "_asdict", "_fields"),
    # Trio says nowhere else which alert an SSLStream was about to send when the peer left.
    "_outgoing",
    # subprocess has no other seam between the pipes that it makes and the start of the process.
    *("_execute_child", "_child_created", "_close_pipe_fds"),
}


def _private(tree: ast.AST) -> Iterator[str]:
    """Accesses to a private attribute of anything but `self`, also by its name in `setattr` and the like, and imports
    of private names."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls") | ast.Call(func=ast.Name(id="super"))):
                continue
            case ast.Attribute(attr=name):
                names = [name]
            case ast.ImportFrom(names=aliases):
                names = [alias.name for alias in aliases]
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called)) if called.endswith("attr"):
                names = [str(each.value).rpartition(".")[2] for each in node.args if isinstance(each, ast.Constant)]
            case _:
                continue
        for name in names:
            if name.startswith("_") and not name.startswith("__") and name not in ALLOWED_PRIVATE:
                yield f"{name}, line {node.lineno}"


def test_a_private_attribute_is_found() -> None:
    tree = ast.parse(
        "self._mine = node._gateway\nmonkeypatch.setattr(node, '_beat', 1)\npush._replace(seq=1)\nx.__len__()\n"
        "super()._beat()\nfrom store.sync import _changed, sync\nfrom __future__ import annotations"
    )
    assert sorted(_private(tree)) == ["_beat, line 2", "_changed, line 6", "_gateway, line 1"]


FOR_OPERATORS = {"server/transport/proxies.py"}
"""An operator reads their sentences about a wrong setting or proxy, in a log."""


NAMED_AFTER_CODE = {"server/http/reference/schemas.py", "server/http/reference/operations.py"}
"""The OpenAPI document calls schemas and operations after structs and handlers."""


@pytest.mark.parametrize("folder", ["protocol", "server", "client"])
def test_no_sentence_for_others_shows_the_name_of_a_class_or_a_value_as_python_writes_it(folder: str) -> None:
    """Frames are called as in SPEC.md, by `name_of`; only logs and assertions may say more."""
    for file in files():
        name = str(file.relative_to(ROOT))
        if name.startswith(f"{folder}/") and name not in FOR_OPERATORS | NAMED_AFTER_CODE:
            assert not list(_shown_as_python(tree_of(file))), name


def _shown_as_python(node: ast.AST) -> Iterator[int]:
    """The lines that take the name of a class, or the `repr` of a value."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Assert() | ast.Call(func=ast.Attribute(value=ast.Name(id="log"))):
                continue
            case ast.Attribute(attr="__name__") | ast.Call(func=ast.Name(id="repr")):
                yield child.lineno
            case ast.FormattedValue(conversion=114):  # !r
                yield child.lineno
        yield from _shown_as_python(child)


@pytest.mark.parametrize("package", sorted({*PACKAGES} - {"bench"}))
def test_no_except_hides_a_later_one_of_its_try(package: str) -> None:
    """Python takes the first handler that fits: a class before its own subclass hides the handler of the subclass."""
    for file in sorted((ROOT / package).rglob("*.py")):
        nodes = [node for node in nodes_of(file) if isinstance(node, ast.Try | ast.TryStar)]
        if tries := [node for node in nodes if len(node.handlers) > 1]:
            path = file.relative_to(ROOT).with_suffix("")
            names = vars(importlib.import_module(".".join(path.parts)))
            for each in tries:
                handlers = [_caught(handler, names) for handler in each.handlers]
                assert _hidden(handlers) == [], f"{path}, line {each.lineno}"


def _caught(handler: ast.ExceptHandler, names: dict[str, Any]) -> tuple[type[BaseException], ...]:
    if handler.type is None:
        return (BaseException,)
    found = eval(compile(ast.Expression(handler.type), "except", "eval"), names)
    return found if isinstance(found, tuple) else (found,)


def _hidden(handlers: Sequence[tuple[type[BaseException], ...]]) -> list[type[BaseException]]:
    return [
        later
        for number, handler in enumerate(handlers)
        for later in handler
        if any(issubclass(later, earlier) for some in handlers[:number] for earlier in some)
    ]


def test_a_hidden_except_is_found() -> None:
    assert _hidden([(StoreError,), (RedisError,)]) == [RedisError]
    assert _hidden([(ValueError, StoreError), (OSError, Unavailable), (Exception,)]) == [Unavailable]
    assert _hidden([(RedisError,), (StoreError,), (Exception,)]) == []


_RIDDLE = re.compile(r"^test_(what|who|whoever|whatever|of)_|_(nobody|somebody|anybody)(_|$)")


def test_the_name_of_each_test_has_a_named_subject() -> None:
    """A name such as `test_what_is_held_is_bounded` does not say which object or user the test is about."""
    riddles = [
        f"{file.relative_to(ROOT)}: {node.name}"
        for file in sorted((ROOT / "tests").rglob("*.py"))
        for node in nodes_of(file)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if node.name.startswith("test_") and _RIDDLE.search(node.name)
    ]
    assert riddles == []
