"""The peers do what the benchmarks count: each acknowledges, delivers, answers pages and works off jobs.

`make peers` runs these tests.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from bench.contest import Traffic, measure
from bench.databases import Shared
from bench.peers import CLUSTERS, NODE, PEERS, Peer
from bench.queue_ours import CASES
from bench.workload import ChatParticipant
from embedded.services import RunningServices

pytestmark = pytest.mark.peers

SHORT = Traffic("closed,50", warm_s=0.2, seconds=0.3)


@pytest.fixture
def shared(shared_services: RunningServices, redis_url: str) -> Shared:
    postgres, redis = shared_services.postgres, shared_services.redis
    return Shared(postgres.url, postgres.pid, postgres.log, redis_url, redis.pid)


@pytest.fixture
def peer(request: pytest.FixtureRequest, shared: Shared, tmp_path: Path) -> Iterator[Peer]:
    made = Peer(request.param, shared, tmp_path)
    yield made
    shared.drop_database(made.database)


def get(port: int, path: str, user: ChatParticipant, **headers: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}{path}", headers={"x-user-id": user.user, **headers})


@pytest.mark.parametrize("peer", PEERS, indirect=True)
def test_a_peer_acknowledges_what_postgres_has_and_delivers_it_to_each_other_participant(peer: Peer) -> None:
    chats = peer.prepare([2, 3])
    lines = list(measure(peer, chats, SHORT))
    assert [line["first_error"] for line in lines] == [None, None]
    assert all(line["valid"] and line["delivered_per_s"] > line["acked_per_s"] for line in lines)
    with closing(psycopg.connect(peer.database_url)) as connection:
        [(stored,)] = connection.execute("select count(*) from messages").fetchall()
    assert stored >= sum(line["acked_per_s"] * line["seconds"] for line in lines)


@pytest.mark.parametrize("peer", CLUSTERS, indirect=True)
def test_processes_of_one_peer_deliver_to_each_others_users(peer: Peer) -> None:
    for line in measure(peer, peer.prepare([2]), SHORT, nodes=2):
        assert (line["valid"], line["undelivered"], line["first_error"]) == (True, 0, None)


@pytest.mark.parametrize("peer", ["sio-redis", "ws"], indirect=True)
def test_a_page_shows_what_was_sent_and_a_stranger_gets_none(peer: Peer) -> None:
    group, other = peer.prepare([3, 2])
    reader, stranger = group.participants[1], other.participants[0]
    history = f"/conversations/{group.conversation}/messages?limit=50"
    list(measure(peer, [group], SHORT))
    with peer.started() as endpoint, closing(psycopg.connect(peer.database_url)) as connection:
        stored = connection.execute("select id::text from messages order by created_at, id").fetchall()
        page = get(endpoint.http_port, history, reader).json()
        assert [message["id"] for message in page["messages"]] == [id_ for (id_,) in stored[-50:]]
        [entry] = get(endpoint.http_port, "/conversations", reader).json()["conversations"]
        assert (entry["unread_count"], entry["last_message"]["id"]) == (len(stored), stored[-1][0])
        assert len(entry["participants"]) == 3
        assert get(endpoint.http_port, history, stranger).status_code == 403


@pytest.mark.parametrize("peer", ["sio-redis"], indirect=True)
def test_the_plan_compresses_pages_for_clients_that_allow_it(peer: Peer) -> None:
    [group] = peer.prepare([40])
    with peer.started() as endpoint:
        answers = [
            get(endpoint.http_port, "/conversations", group.participants[0], **{"accept-encoding": encoding})
            for encoding in ("gzip", "identity")
        ]
    assert [answer.headers.get("content-encoding") for answer in answers] == ["gzip", None]
    assert answers[0].content == answers[1].content


@pytest.mark.parametrize("case", CASES)
def test_bullmq_has_the_figures_of_each_case(shared: Shared, case: str) -> None:
    environment = {**os.environ, "REDIS_URL": shared.redis_url, "REDIS_PID": str(shared.redis_pid)}
    command = ["node", str(NODE / "queue.mjs"), case, "20"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, timeout=60)
    figures: dict[str, Any] = json.loads(done.stdout)
    assert figures["jobs"] == 20
    if case == "memory":
        assert 0 < figures["waiting_bytes"] < figures["pending_bytes"]
    else:
        assert figures["total_us"] > 0
        assert figures["total_us"] == pytest.approx(
            figures.get("client_us", 0) + figures.get("worker_us", 0) + figures["redis_us"], abs=0.2
        )
