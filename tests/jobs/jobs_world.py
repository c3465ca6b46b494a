"""Doubles for the tests of jobs: a webhook and a task with scripted behaviour."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import h11
import trio

from jobs.engine.job import Job
from jobs.engine.queue import Queue
from store.errors import StoreError
from store.messages import Committed, NewMessage, send
from store.participant_lists import ParticipantsCache
from store.postgres.pool import Pool
from tests.waiting import DEADLINE_S, let_pass, wait_until


class RecordingTask:
    """A task that records its calls and follows its script.

    :ivar calls: id, attempt and argument of each run, in the order of their beginnings.
    :ivar times: of the beginnings.
    :ivar errors: raised by the next runs, one each.
    :ivar gate: while set, runs wait for it.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int]] = []
        self.times: list[float] = []
        self.errors: list[Exception] = []
        self.gate: trio.Event | None = None
        self.running = 0
        self.most_running = 0
        self._grew = trio.Condition()

    async def note(self, job: Job, number: int) -> int:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self._run(job, number)
        finally:
            self.running -= 1
        return number

    async def pause(self, job: Job, number: int) -> None:
        """The same, but it takes 20 ms longer."""
        await self.note(job, number)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await let_pass(0.02, why="the job takes its time")
        self.running -= 1

    async def _run(self, job: Job, number: int) -> None:
        async with self._grew:
            self.calls.append((job.id, job.attempt, number))
            self.times.append(trio.current_time())
            self._grew.notify_all()
        if self.gate is not None:
            await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)

    @property
    def numbers(self) -> list[int]:
        return [number for _, _, number in self.calls]

    async def wait_calls(self, count: int) -> list[tuple[str, int, int]]:
        with trio.fail_after(DEADLINE_S):
            async with self._grew:
                while len(self.calls) < count:
                    await self._grew.wait()
        return self.calls


def a_job(task: str = "task", *, id: str = "1", attempt: int = 1, reports: list[str] | None = None) -> Job:
    """The first argument of a handler.

    :param reports: gets what the handler reports.
    """

    async def report(progress: str) -> None:
        if reports is not None:
            reports.append(progress)

    return Job(id, task, attempt, report)


async def no_jobs(pool: Pool) -> bool:
    """Whether no durable job is left; false while Postgres is away."""
    try:
        return await pool.fetch("select * from jobs") == []
    except StoreError:
        return False


async def ended(queue: Queue, job: str) -> str:
    """Wait until the job has ended; the state at its end."""

    async def over() -> str:
        state = (await queue.state(job)).state
        return state if state in ("done", "failed", "dead", "cancelled") else ""

    return str(await wait_until(over, f"job {job} has ended"))


class Hook:
    """A webhook on a free port.

    :ivar got: the bodies that came, as text, in order.
    :ivar answers: statuses of the next answers; when they are used up, 204.
    :ivar hanging: while set to an event, calls wait for it before they are answered.
    """

    def __init__(self) -> None:
        self.url = ""
        self.got: list[str] = []
        self.headers: list[list[tuple[bytes, bytes]]] = []
        self.answers: list[int] = []
        self.hanging: trio.Event | None = None
        self.dripping = False
        self._grew = trio.Condition()

    @property
    def users(self) -> list[bytes]:
        return [UUID(json.loads(body)["user"]).bytes for body in self.got]

    async def wait_calls(self, count: int, *, timeout_s: float = DEADLINE_S) -> list[str]:
        with trio.move_on_after(timeout_s):
            async with self._grew:
                while len(self.got) < count:
                    await self._grew.wait()
                return self.got
        raise AssertionError(f"{len(self.got)} calls, not {count}, within {timeout_s:g} s")

    async def serve(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            while await self._serve_one(stream, connection):
                connection.start_next_cycle()
        except (trio.BrokenResourceError, h11.ProtocolError):
            pass  # The caller gave up, which it may.

    async def _serve_one(self, stream: trio.SocketStream, connection: h11.Connection) -> bool:
        body = b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some())
            elif isinstance(event, h11.Request):
                self.headers.append(list(event.headers))
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return False
        async with self._grew:
            self.got.append(body.decode())
            self._grew.notify_all()
        await self._answer(stream, connection)
        return True

    async def _answer(self, stream: trio.SocketStream, connection: h11.Connection) -> None:
        if self.hanging is not None:
            await self.hanging.wait()
        status = self.answers.pop(0) if self.answers else 204
        if self.dripping:
            head = connection.send(h11.Response(status_code=200, headers=[("content-length", "1000000")]))
            await stream.send_all(head or b"")
            while True:  # Send a little again and again, without an end.
                await stream.send_all(connection.send(h11.Data(data=b".")) or b"")
                await let_pass(0.02, why="the answer comes in drops")
        response = h11.Response(status_code=status, headers=[] if status == 204 else [("content-length", "0")])
        await stream.send_all((connection.send(response) or b"") + (connection.send(h11.EndOfMessage()) or b""))


@asynccontextmanager
async def open_hook() -> AsyncGenerator[Hook, None]:
    hook = Hook()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    hook.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/notices"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, hook.serve, listeners)
        yield hook
        nursery.cancel_scope.cancel()


async def send_message(pool: Pool, conversation: bytes, sender: bytes, *contents: bytes) -> int:
    """Commit a message of each content (or one); the seq of the last."""
    outcomes = await send(
        pool,
        ParticipantsCache(),
        [
            NewMessage(conversation, sender, uuid4().bytes, "text", content, None, None)
            for content in contents or (b"ciphertext",)
        ],
    )
    last = outcomes[-1]
    assert isinstance(last, Committed)
    return last.seq


async def outbox_rows(pool: Pool) -> int:
    """The pending work of messages: windows that have not ended, and jobs."""
    rows = (
        "select (select count(*) from outbox) + (select count(*) from jobs where task in ('offline_notice', 'notify'))"
    )
    [(number,)] = await pool.fetch(rows)
    return int(number)


async def outbox_empty(pool: Pool) -> None:
    async def empty() -> bool:
        return await outbox_rows(pool) == 0

    await wait_until(empty, "nothing is left to follow from messages")
