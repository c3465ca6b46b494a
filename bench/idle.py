"""The cost of idle connections, and how long clients take to come back after their gateway is killed.

    python -m bench.idle --connections 10000 --seconds 60 --restarts 3

One gateway, one web process and one worker run; the clients are in direct chats of two and live in this process. They
connect, at most `--concurrency` at a time, and stay, pinging every 30 s. Then the gateway is killed (SIGKILL) and
started again on the same port, `--restarts` times, and each client comes back on its own after its random delays.
"""

from __future__ import annotations

import argparse
import os
import signal
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from bench.cpu import CpuMeter, used
from bench.herd import Herd
from bench.memory import resident_bytes
from bench.ours import Ours
from bench.processes import free_port
from bench.program import FOLDER, allow_files, print_line, run_alone, say, shared_services
from bench.wave import describe

WAVE_TIMEOUT_S: Final = 120.0
SETTLE_S: Final = 3.0
"""Time between the last welcome and the first reading; meanwhile the gateway tells contacts which users came online."""


@dataclass(frozen=True)
class IdleSettings:
    connections: int
    concurrency: int
    seconds: float
    restarts: int


def idle(settings: IdleSettings) -> bool:
    """Print a line for each stage; returns whether all clients were connected in each."""
    with shared_services() as shared:
        server = Ours(shared, FOLDER)
        say(f"making {settings.connections} users")
        chats = server.prepare([2] * -(-settings.connections // 2))
        tokens = [participant.token for chat in chats for participant in chat.participants][: settings.connections]
        shared.even_out(server.database_url)
        port = free_port()
        with closing(Herd(port, tokens)) as herd, server.companions(free_port()) as companions:
            with server.gateway(port) as gateway:
                groups = {"server": [gateway], **companions, "postgres": [shared.postgres_pid]}
                are_valid = [_open_and_stay(settings, herd, groups)]
                herd.expect_loss()
                os.kill(gateway, signal.SIGKILL)
            for restart in range(1, settings.restarts + 1):
                say(f"killed: {restart} of {settings.restarts}")
                with server.gateway(port, wait=False) as gateway:
                    wave = herd.wait_back(WAVE_TIMEOUT_S)
                    are_valid.append(herd.is_whole)
                    line = {"kind": "returned", "restart": restart, "valid": herd.is_whole, "connected": herd.connected}
                    print_line({**line, **describe(wave)})
                    herd.stay(SETTLE_S)
                    herd.expect_loss()
                    os.kill(gateway, signal.SIGKILL)
    return all(are_valid)


def _open_and_stay(settings: IdleSettings, herd: Herd, groups: dict[str, list[int]]) -> bool:
    [gateway] = groups["server"]
    before = resident_bytes(gateway)
    say(f"connecting {settings.connections}")
    wave = herd.open(settings.concurrency, WAVE_TIMEOUT_S)
    is_open = herd.is_whole
    print_line({"kind": "opened", "valid": is_open, "concurrency": settings.concurrency, **describe(wave)})
    herd.stay(SETTLE_S)
    opened = resident_bytes(gateway)
    say(f"idling for {settings.seconds:g} s")
    meter = CpuMeter(groups)
    start, pings = meter.read(), herd.pings
    herd.stay(settings.seconds)
    cpu = used(start, meter.read())
    after = resident_bytes(gateway)
    is_valid = is_open and herd.is_whole and not herd.losses and herd.pongs == herd.pings
    print_line(
        {
            "kind": "idle",
            "valid": is_valid,
            "connections": settings.connections,
            "seconds": settings.seconds,
            "pings": herd.pings - pings,
            "rss_bytes_before": before,
            "rss_bytes_per_connection": round((after - before) / settings.connections),
            "rss_bytes_per_connection_when_opened": round((opened - before) / settings.connections),
            **{f"{name}_percent": round(used_s / settings.seconds * 100, 2) for name, used_s in cpu.items()},
        }
    )
    return is_valid


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.idle", description=__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=64, help="connections opened at the same time")
    parser.add_argument("--seconds", type=float, default=60.0, help="measured seconds of idling")
    parser.add_argument("--restarts", type=int, default=3, help="how often the gateway is killed")
    options = parser.parse_args()
    settings = IdleSettings(options.connections, options.concurrency, options.seconds, options.restarts)
    allow_files(settings.connections)
    run_alone(lambda: idle(settings))


if __name__ == "__main__":
    main()
