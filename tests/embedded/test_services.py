import socket
import subprocess
import threading
from pathlib import Path

import psycopg
import pytest
import redis

from embedded.errors import EmbeddedError
from embedded.ports import free_port, is_free
from embedded.postgres import NOT_DURABLE, PostgresServer
from embedded.process import running_in
from embedded.programs import take_back
from embedded.redis import RedisServer
from embedded.services import services
from tests.embedded.embedded_world import command, is_alive, needs_linux, nothing_runs_in, python, sql, wait_ended
from tests.waiting import wait_until_blocking


def test_both_answer_in_a_long_folder_with_a_space_and_end_with_the_block(folder: Path) -> None:
    assert len(str(folder)) > 110
    with services(folder, durable=False, settings={"max_connections": "17"}) as running:
        pids = [running.postgres.pid, running.redis.pid]
        ports = [running.postgres.port, running.redis.port]
        assert sql(running.postgres, "show max_connections") == [("17",)]
        assert sql(running.postgres, "show fsync") == [("off",)]
        assert sql(running.postgres, "select lower('É')") == [("é",)]
        assert command(running.redis, "INFO", "memory")["maxmemory_policy"] == "noeviction"
        assert not any(map(is_free, ports))
    wait_ended(pids)
    assert all(map(is_free, ports))


def test_data_and_port_survive_a_restart(folder: Path) -> None:
    with services(folder, durable=True) as running:
        before = running.postgres.url, running.redis.url
        assert sql(running.postgres, "show fsync") == [("on",)]
        sql(running.postgres, "create table kept as select 7 as number")
        command(running.redis, "SET", "kept", "7")
        running.postgres.restart()
        running.redis.restart()
        assert (running.postgres.url, running.redis.url) == before
    with services(folder, durable=True) as again:
        assert sql(again.postgres, "select number from kept") == [(7,)]
        assert command(again.redis, "GET", "kept") == b"7"


def test_data_survives_kill_9_and_no_child_is_left_meanwhile(folder: Path) -> None:
    with services(folder, durable=True) as running:
        sql(running.postgres, "create table kept as select 7 as number")
        command(running.redis, "SET", "kept", "7")
        with psycopg.connect(running.postgres.url) as idle:
            idle.execute("select 1")
            running.postgres.kill()
            running.redis.kill()
            assert nothing_runs_in(running.postgres.data)
            assert nothing_runs_in(running.redis.data)
            with pytest.raises(psycopg.OperationalError):
                idle.execute("select 1")
        running.postgres.start()
        running.redis.start()
        assert sql(running.postgres, "select number from kept") == [(7,)]
        assert command(running.redis, "GET", "kept") == b"7"


def test_a_paused_service_accepts_connections_and_answers_none_until_resumed(folder: Path) -> None:
    service = RedisServer(folder, durable=False)
    service.start()
    try:
        service.pause()
        with pytest.raises(redis.TimeoutError):
            command(service, "PING", timeout_s=0.1)
        service.resume()
        assert command(service, "PING") is True
    finally:
        service.stop()


@needs_linux
def test_a_paused_postgres_is_frozen_with_its_children_and_can_be_stopped(folder: Path) -> None:
    service = PostgresServer(folder, settings=NOT_DURABLE)
    service.start()
    pids = running_in(service.data, "postgres", service.pid)
    assert len(pids) > 3
    service.pause()
    wait_until_blocking(lambda: all(_state(pid) == "T" for pid in pids), "all are stopped")
    service.stop()
    wait_ended(pids)


def test_a_server_that_was_left_on_the_data_is_stopped_by_the_next_start(folder: Path) -> None:
    left, following = PostgresServer(folder, settings=NOT_DURABLE), PostgresServer(folder, settings=NOT_DURABLE)
    left.start()
    old = left.pid
    try:
        following.start()
        assert not left.is_running
        assert not is_alive(old)
        assert sql(following, "select 1") == [(1,)]
        left.stop()  # of a server that is gone; the other's stays
        assert following.is_running
    finally:
        following.stop()


def test_a_stale_pid_file_that_names_another_process_is_no_reason_to_stop_it(folder: Path) -> None:
    service = PostgresServer(folder, settings=NOT_DURABLE)
    service.start()
    service.kill()
    stale = service.data / "postmaster.pid"
    with subprocess.Popen(["sleep", "60"]) as bystander:
        try:
            stale.write_text("\n".join([str(bystander.pid), *stale.read_text().splitlines()[1:]]))
            service.start()
            assert bystander.poll() is None
        finally:
            service.stop()
            bystander.kill()


def test_two_folders_side_by_side(folder: Path) -> None:
    with services(folder / "one", durable=False) as one, services(folder / "two", durable=False) as two:
        sql(one.postgres, "create table only_here ()")
        assert sql(two.postgres, "select to_regclass('only_here')") == [(None,)]
        assert len({one.postgres.port, two.postgres.port, one.redis.port, two.redis.port}) == 4


@pytest.mark.parametrize("service", [PostgresServer, RedisServer])
def test_a_taken_port_is_named_and_nothing_is_left(
    folder: Path, service: type[PostgresServer] | type[RedisServer]
) -> None:
    handle = service(folder, port=free_port())
    with socket.create_server(("127.0.0.1", handle.port)):
        with pytest.raises(EmbeddedError, match=f"Port {handle.port} is taken"):
            handle.start()
        assert nothing_runs_in(handle.data)
    handle.start()
    handle.stop()


def test_a_server_that_refuses_to_start_says_why(folder: Path) -> None:
    service = PostgresServer(folder, settings={**NOT_DURABLE, "shared_buffers": "nonsense"})
    with pytest.raises(EmbeddedError, match="shared_buffers"):
        service.start()
    assert nothing_runs_in(service.data)
    with pytest.raises(EmbeddedError, match="not running"):
        _ = service.pid


def test_the_end_of_the_thread_that_started_it_is_not_the_end_of_the_service(folder: Path) -> None:
    service = RedisServer(folder, durable=False)
    starter = threading.Thread(target=service.start)
    starter.start()
    starter.join()
    try:
        assert command(service, "PING") is True
    finally:
        service.stop()


@needs_linux
def test_services_end_when_their_parent_is_killed(folder: Path) -> None:
    code = """
import os, pathlib, signal, sys
from embedded.services import services
with services(pathlib.Path(sys.argv[1]), durable=False) as running:
    print(running.postgres.pid, running.redis.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = python(code, folder)
    take_back(folder / "postgres")
    take_back(folder / "redis")
    pids = [int(word) for word in ended.stdout.split()]
    assert len(pids) == 2, ended.stderr
    wait_ended(pids)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
