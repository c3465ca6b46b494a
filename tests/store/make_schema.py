"""store/schema.sql: the whole schema, as the migrations leave it. `python -m tests.store.make_schema` writes it.

The structure comes from Postgres' catalogs, after all migrations; the comments and the order of the tables come from
the migrations' text. pg_dump does not help: it drops the comments of SQL files, and takes each table apart.
"""

from __future__ import annotations

import re
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import trio

import store
from embedded.postgres import NOT_DURABLE, PostgresServer
from store.postgres.driver import PostgresConnection, connected
from store.postgres.migrate import migrate, migrations
from tests.memory import in_memory

FILE: Final = Path(store.__file__).parent / "schema.sql"
FUNCTIONS: Final = Path(store.__file__).parent / "sql" / "functions"

HEAD: Final = """\
-- The whole schema, as all files of store/sql/migrations/ leave it: to be read, never to be run.
-- Made by `python -m tests.store.make_schema`; tests/store/test_schema.py compares it with a migrated database.
"""

_OBJECT: Final = re.compile(r"(?:create (?:table|view|(?:unique )?index(?: concurrently)?)|alter table)\s+(\w+)")
_PART: Final = re.compile(r"(?:alter table \w+\s+)?(?:\s*add (?:column )?|\s+)(?:constraint )?(\w+)")
_SHORT: Final = {
    "timestamp with time zone": "timestamptz",
    "double precision": "float8",
    " integer": " int",
    "'::text": "'",
    " using btree": "",
}
_KEYWORD: Final = re.compile(r"'(?:[^']|'')*'|\b[A-Z]{2,}\b")


class Comments(NamedTuple):
    """What the migrations say about each table, view, index, column and named constraint.

    :ivar of: (object, part) -> lines of comment; the part is empty for the object itself.
    :ivar order: tables and views, ordered by creation.
    """

    of: Mapping[tuple[str, str], list[str]]
    order: list[str]


def comments_of(text: str) -> Comments:
    """A comment belongs to the line that follows it. A later one about the same thing replaces it."""
    found: dict[tuple[str, str], list[str]] = {}
    order: list[str] = []
    pending: list[str] = []
    current = ""
    for line in text.splitlines():
        if line.strip().startswith("--") or not line.strip():
            pending += [line.strip()] if pending or line.strip() else []
            continue
        if statement := _OBJECT.match(line):
            current = statement[1]
            if line.startswith(("create table", "create view")):
                order.append(current)
        part = None if line.startswith("create") else _PART.match(line)
        if line.startswith("alter") and not part:
            continue  # the altered parts follow, on lines of their own
        if pending and current and (statement or part):
            found[current, part[1] if part else ""] = pending
        pending = []
        if line.rstrip().endswith(";"):
            current = ""
    return Comments(found, order)


async def describe(connection: PostgresConnection) -> str:
    """The schema of a migrated database, as SQL: the same text for the same schema."""
    comments = comments_of("\n".join(migration.text for migration in migrations()))
    relations: dict[str, str] = dict(await connection.query(_RELATIONS))  # type: ignore[arg-type]
    order = [name for name in comments.order if name in relations] + sorted(set(relations) - set(comments.order))
    parts = [HEAD]
    for name in order:
        lines = _table(await connection.query(_PARTS, {"table": name}), name, relations[name], comments)
        parts.append("".join(f"{line}\n" for line in lines))
    return "\n".join([*parts, _functions(await connection.query(_SIGNATURES))])


def _table(rows: list[tuple[object, ...]], name: str, kind: str, comments: Comments) -> Iterator[str]:
    def of(name: str, part: str = "", indent: str = "") -> Iterator[str]:
        for line in comments.of.get((name, part), ()):
            yield indent + line if line else ""

    yield from of(name)
    parts = [(str(what), str(part), _plain(text)) for what, part, text in rows]
    if kind == "v":
        yield f"create view {name} as"
        yield from (line for what, _, text in parts if what == "view" for line in text.splitlines())
        return
    inside = [(part, text) for what, part, text in parts if what in ("column", "constraint")]
    yield f"create table {name} ("
    for n, (part, text) in enumerate(inside):
        yield from of(name, part, "    ")
        yield from _wrapped(f"    {text}{',' if n < len(inside) - 1 else ''}", " " * 8)
    yield ")" + "".join(f" with ({text})" for what, _, text in parts if what == "options") + ";"
    for what, part, text in parts:
        if what in ("index", "trigger"):
            yield from of(part)
            yield from _wrapped(f"{text};", " " * 4)


def _functions(rows: list[tuple[object, ...]]) -> str:
    lines = ["-- Functions, each in store/sql/functions/, in a file of its name.", ""]
    for name, arguments, result in rows:
        purpose = (FUNCTIONS / f"{name}.sql").read_text().partition("\ncreate ")[0].removeprefix("-- ")
        [sentence, *_] = re.split(r"(?<=\.)\s", purpose.partition("\n--\n")[0].replace("\n-- ", " "), maxsplit=1)
        lines += [
            *_wrapped(f"-- {sentence}", "-- "),
            *_wrapped(f"-- {name}({_plain(arguments)}) returns {_plain(result)}", "--     "),
            "",
        ]
    return "\n".join(lines[:-1]) + "\n"


def _wrapped(line: str, indent: str) -> list[str]:
    return textwrap.wrap(line, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _plain(text: object) -> str:
    """In our style of SQL: keywords in small letters, short names of types, no implied casts and methods."""
    found = _KEYWORD.sub(lambda match: match[0] if match[0].startswith("'") else match[0].lower(), str(text))
    for long, short in _SHORT.items():
        found = found.replace(long, short)
    return found


_RELATIONS: Final = (
    "select c.relname::text, c.relkind::text from pg_class c"
    " where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v')"
)

_PARTS: Final = """
with relation as (select %(table)s::text::regclass as oid)
select what, part, text from (
    select 1 as place, 'column' as what, a.attname::text as part, a.attnum::int as n,
           concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), case when a.attnotnull then 'not null' end,
                     case a.attidentity when 'a' then 'generated always as identity'
                                        when 'd' then 'generated by default as identity' end,
                     'default ' || pg_get_expr(d.adbin, d.adrelid)) as text
    from relation r join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
    left join pg_attrdef d on d.adrelid = r.oid and d.adnum = a.attnum
    union all
    select 2, 'constraint', k.conname::text, strpos('puxcf', k.contype::text),
           format('constraint %%I %%s', k.conname, pg_get_constraintdef(k.oid, true))
    from relation r join pg_constraint k on k.conrelid = r.oid and k.contype <> 'n'
    union all
    select 3, 'options', '', 0, array_to_string(c.reloptions, ', ')
    from relation r join pg_class c on c.oid = r.oid and c.reloptions is not null
    union all
    select 4, 'index', i.indexrelid::regclass::text, 0, pg_get_indexdef(i.indexrelid, 0, true)
    from relation r join pg_index i on i.indrelid = r.oid
    where not exists (select from pg_constraint k where k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x'))
    union all
    select 5, 'trigger', t.tgname::text, 0, pg_get_triggerdef(t.oid, true)
    from relation r join pg_trigger t on t.tgrelid = r.oid and not t.tgisinternal
    union all
    select 6, 'view', '', 0, pg_get_viewdef(c.oid, true)
    from relation r join pg_class c on c.oid = r.oid and c.relkind = 'v'
) parts
order by place, n, part
"""

_SIGNATURES: Final = """
select p.proname::text, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid) from pg_proc p
where p.pronamespace = 'public'::regnamespace order by p.proname, pg_get_function_arguments(p.oid)
"""


async def schema_of(url: str) -> str:
    async with connected(url) as connection:
        return await describe(connection)


async def _migrated_schema(url: str) -> str:
    await migrate(url)
    return await schema_of(url)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="alo-schema-") as folder, in_memory(Path(folder)) as data:
        postgres = PostgresServer(data, settings=NOT_DURABLE)
        postgres.start()
        try:
            FILE.write_text(trio.run(_migrated_schema, postgres.url))
        finally:
            postgres.stop()


if __name__ == "__main__":
    sys.exit(main())
