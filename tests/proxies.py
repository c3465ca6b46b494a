"""What the proxies in front of processes of a test have in common."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import trio
import trustme

from embedded.ports import free_port
from tests.waiting import wait_until

ROOT: Final = Path(__file__).parent.parent

Servers: TypeAlias = Mapping[str, Sequence[str]]
"""Kind of process -> the addresses of its processes, as HOST:PORT."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate for `localhost`.

    :ivar authority: the file of the authority that has signed it.
    :ivar chain, key: its files.
    :ivar both: a file with both, as HAProxy wants it.
    """

    authority: Path
    chain: Path
    key: Path
    both: Path


def new_certificate(folder: Path) -> Certificate:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    made = Certificate(*(folder / name for name in ("ca.pem", "chain.pem", "key.pem", "both.pem")))
    authority.cert_pem.write_to_path(made.authority)
    issued.private_key_and_cert_chain_pem.write_to_path(made.both)
    issued.private_key_pem.write_to_path(made.key)
    for number, pem in enumerate(issued.cert_chain_pems):
        pem.write_to_path(made.chain, append=number > 0)
    return made


@asynccontextmanager
async def running_proxy(
    write: Callable[[int], None], command: Sequence[str], environment: Mapping[str, str] | None = None
) -> AsyncGenerator[int, None]:
    """A proxy until the end of the block; gives its port.

    :param write: writes the configuration for a port.
    :param environment: of the process; None: that of the test.
    """
    port = free_port()
    write(port)
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(_run, command, environment)
        await wait_until(lambda: _listens(process, port), f"{command[0]} listens")
        yield port
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
    assert process.returncode is None, "the proxy has ended"
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError:
        return False
    await stream.aclose()
    return True
