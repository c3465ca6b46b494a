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


def test_without_node_ours_is_left_and_a_line_for_each_peer_says_why(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    assert usable(["alo", "sio-redis", "ws"]) == ("alo",)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "left out: sio-redis (node not found)\nleft out: ws (node not found)\n"


def test_without_their_packages_the_peers_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "node").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(peers, "NODE", tmp_path)
    monkeypatch.setattr(peers, "PYTHON_PACKAGES", ("no_such_package",))
    for name in peers.PEERS:
        assert peers.lacks(name) == "no packages: make peers installs them"


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
