"""The comparison: its servers, their order, and the peers."""

from pathlib import Path

import pytest

from bench import peers
from bench.contest import rotated, usable
from bench.databases import Shared
from bench.ours import Ours


def test_every_server_is_first_once() -> None:
    shared = Shared("postgresql://127.0.0.1:1/postgres", 1, Path("log"), "redis://127.0.0.1:2/0", 2)
    servers = [Ours(shared, Path()) for _ in range(3)]
    orders = [rotated(servers, turn) for turn in range(4)]
    assert [order[0] for order in orders] == [*servers, servers[0]]
    assert all(set(order) == set(servers) for order in orders)


def test_a_database_of_the_same_cluster() -> None:
    shared = Shared("postgresql://postgres@127.0.0.1:1/postgres", 1, Path("log"), "redis://127.0.0.1:2/0", 2)
    assert Ours(shared, Path()).database_url == "postgresql://postgres@127.0.0.1:1/bench_alo"


def test_without_peers_ours_is_left_and_one_line_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert usable(["alo", "sio-redis", "ws"], None) == ("alo",)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "left out: sio-redis, ws (no folder of peers is given)\n"


def test_without_node_the_peers_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("socketio", "ws"):
        (tmp_path / name).mkdir()
    assert peers.missing(tmp_path) == f"{tmp_path} has no db"
    (tmp_path / "db").mkdir()
    monkeypatch.setenv("PATH", "")
    assert peers.missing(tmp_path) == "node and npm not found"


def test_the_peers_are_built_again_only_when_their_sources_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    for name in ("socketio/src", "ws", "db"):
        (source / name).mkdir(parents=True)
    (source / "db" / "schema.sql").write_text("one")
    commands: list[list[str]] = []
    monkeypatch.setattr(peers, "run", lambda command, **_: commands.append(command))
    peers.build(source, copy)
    peers.build(source, copy)
    assert len(commands) == 3
    (source / "db" / "schema.sql").write_text("other")
    peers.build(source, copy)
    assert len(commands) == 6
    assert (copy / "db" / "schema.sql").read_text() == "other"


def test_chats_of_the_peers_share_no_user_and_have_ids_of_their_form() -> None:
    direct, group = peers.make_chats([2, 3])
    assert direct.conversation == "00000001-0000-4000-8000-000000000001"
    assert [participant.user[-3:] for chat in (direct, group) for participant in chat.participants] == [
        "001",
        "002",
        "003",
        "004",
        "005",
    ]
    assert direct.participants[0].user == "00000000-0000-4000-8000-000000000001"
    assert (direct.kind, group.kind) == ("direct", "group")
