"""Programs of others that listen on a port, as children of a test."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from tests.waiting import wait_until

START_S: Final = 30.0


@asynccontextmanager
async def running_program(
    command: Sequence[str], port: int, environment: Mapping[str, str] | None = None
) -> AsyncGenerator[trio.Process, None]:
    """The program from when it listens until the end of the block; then it gets SIGTERM, and is waited for.

    :param port: on which the command has it listen, on 127.0.0.1.
    :param environment: of the process; None: that of the test.
    """
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(_run, command, environment)
        await wait_until(lambda: _listens(process, port), f"{command[0]} listens", timeout_s=START_S)
        yield process
        nursery.cancel_scope.cancel()


async def _run(
    command: Sequence[str], environment: Mapping[str, str] | None, *, task_status: trio.TaskStatus[Any]
) -> None:
    await trio.run_process(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        env=environment,
        task_status=task_status,
        deliver_cancel=_end,
    )


async def _end(process: trio.Process) -> None:
    process.terminate()


async def _listens(process: trio.Process, port: int) -> bool:
    assert process.returncode is None, "the program has ended"
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError:
        return False
    await stream.aclose()
    return True
