"""Files of a folder that `web` sends and takes: throughput beside nginx, memory, and the cost for others' sends.

    python -m bench.attachments --rounds 5 --seconds 10

`throughput`: one client downloads a file of 256 MiB from `web` and from nginx, in turn, from the same disk (and its
page cache). `memory`: what `web` grows by for each of many downloads and uploads whose clients have stopped. `sends`:
the latency of sends alone, and beside 8 downloads or 8 uploads, in turn; the clients of the transfers have the lowest
priority, since in life they are other machines. The threads of `web` that copy files have a low priority, too, so on a
machine with other work the throughput says little.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any, Final

import trio

from bench.contest import Traffic, generate
from bench.memory import resident_bytes
from bench.ours import Ours
from bench.processes import accepts, free_port, running
from bench.program import FOLDER, report, run_alone, say, shared_services
from bench.summary import ratios, spread
from bench.transfers import CHUNK_BYTES, connect, download, head_of, read_head
from bench.workload import Chat
from protocol.limits import ATTACHMENT_PART_BYTES
from store.objects.direct import Part
from store.objects.folder import Folder

FILE_BYTES: Final = 256 * 1024 * 1024
KEY: Final = "attachments/00/file"
OBJECTS: Final = FOLDER / "objects"

TRANSFERS: Final = 8
"""Beside which sends are measured."""

STALLED: Final = 64
"""Downloads and uploads, each, for the measurement of memory."""

NGINX: Final = shutil.which(FOLDER.parents[1] / ".venv" / "nginx" / "usr" / "sbin" / "nginx") or shutil.which("nginx")
"""The program that `make nginx` installs, or the machine's."""

LEAST_OF_NGINX: Final = 0.5
MOST_BYTES: Final = 256 * 1024
MOST_P99: Final = 1.25
"""The bars: throughput as a share of nginx', memory of a transfer, and the p99 of sends as a multiple of that alone."""

P99: Final = "ack_p99_ms"

_CONF: Final = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log error;
events {{ worker_connections 64; }}
http {{
    access_log off; sendfile on; tcp_nopush on;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


@dataclass(frozen=True)
class AttachmentSettings:
    rounds: int
    chats: int
    traffic: Traffic


def attachments(settings: AttachmentSettings) -> bool:
    """Print a line for each run, then the summary; returns whether every run was valid."""
    folder = _filled_folder()
    environment = {"OBJECT_STORE_URL": OBJECTS.resolve().as_uri()}
    with shared_services() as shared:
        server = Ours(shared, FOLDER, environment)
        chats = server.prepare([2] * settings.chats)
        return report(_runs(server, folder, chats, settings), summarize_attachments)


def _filled_folder() -> Folder:
    """The folder with the file; the URLs that it signs have no host."""
    shutil.rmtree(OBJECTS, ignore_errors=True)
    folder = Folder(OBJECTS)
    trio.run(folder.start)
    trio.run(folder.put, KEY, bytes(FILE_BYTES), "application/octet-stream")
    return folder


def _runs(
    server: Ours, folder: Folder, chats: Sequence[Chat], settings: AttachmentSettings
) -> Iterator[dict[str, Any]]:
    port = free_port()
    with server.web(port) as web:
        yield {"kind": "run", "case": "memory", "valid": True, **_memory(folder, port, web)}
    if NGINX is None:
        say("left out: throughput beside nginx (no nginx: `make nginx` fetches it)")
    else:
        with server.web(port), _nginx() as nginx_port:
            urls = {
                "alo": f"http://127.0.0.1:{port}{folder.presign_get(KEY, expires_s=86400).url}",
                "nginx": f"http://127.0.0.1:{nginx_port}/{KEY}",
            }
            for round_ in range(1, settings.rounds + 1):
                for name in urls if round_ % 2 else reversed(urls):
                    rate = _throughput(urls[name])
                    yield {
                        "kind": "run",
                        "case": "throughput",
                        "valid": True,
                        "round": round_,
                        "server": name,
                        "mb_per_s": rate,
                    }
    cases = ("alone", "downloads", "uploads")
    for round_ in range(1, settings.rounds + 1):
        for case in cases if round_ % 2 else reversed(cases):
            say(f"round {round_} of {settings.rounds}: sends, {case}")
            yield {"kind": "run", "round": round_, **_sends(server, folder, chats, case, settings.traffic)}


def _throughput(url: str) -> float:
    """MB/s of one download."""
    buffer = memoryview(bytearray(CHUNK_BYTES))
    with connect(url) as connection:
        began = time.monotonic()
        size_bytes = download(connection, url, buffer)
        return round(size_bytes / (time.monotonic() - began) / 1e6, 1)


def _memory(folder: Folder, port: int, web: int) -> dict[str, Any]:
    """What `web` and the kernel's TCP grow by for transfers whose clients have stopped in the middle."""
    before, kernel_before = resident_bytes(web), _tcp_bytes()
    base = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        for n in range(STALLED):
            url = base + folder.presign_get(KEY, expires_s=3600).url
            down = stack.enter_context(connect(url))
            down.sendall(head_of("GET", url))
            read_head(down)
            part = Part(1, ATTACHMENT_PART_BYTES, sha256(b"").digest())
            url = base + folder.presign_put(f"attachments/01/{n}", part, expires_s=3600).url
            up = stack.enter_context(connect(url))
            up.sendall(head_of("PUT", url, ATTACHMENT_PART_BYTES) + bytes(ATTACHMENT_PART_BYTES // 2))
        _wait_quiet(web)
        grown, kernel = resident_bytes(web) - before, _tcp_bytes() - kernel_before
    return {
        "transfers": 2 * STALLED,
        "bytes_per_transfer": grown // (2 * STALLED),
        "kernel_tcp_bytes_per_transfer": kernel // (2 * STALLED),
    }


def _wait_quiet(pid: int) -> None:
    """Return once a process has used no CPU for half a second: it has taken all that was sent."""
    last = -1.0
    while True:
        used = sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
        if used == last:
            return
        last = used
        time.sleep(0.5)


def _tcp_bytes() -> int:
    """The memory of all TCP sockets of this machine; pages of files that are being sent are not counted."""
    [line] = [line for line in Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:")]
    return int(line.split()[-1]) * 4096


@contextmanager
def _nginx() -> Iterator[int]:
    """nginx with the folder as its root; its port."""
    assert NGINX is not None
    port, folder = free_port(), FOLDER / "nginx"
    folder.mkdir(parents=True, exist_ok=True)
    conf = folder / "nginx.conf"
    conf.write_text(_CONF.format(folder=folder, port=port, root=OBJECTS))
    command = [NGINX, "-p", str(folder), "-c", str(conf)]
    with running(command, folder=folder, environment={}, log=folder / "out.log", is_ready=lambda: accepts(port)):
        yield port


def _sends(server: Ours, folder: Folder, chats: Sequence[Chat], case: str, traffic: Traffic) -> dict[str, Any]:
    durability = server.shared.even_out(server.database_url)
    with server.started() as endpoint:
        seconds = traffic.warm_s + traffic.seconds + 3.0
        with _transferring(folder, case, endpoint.http_port, seconds) as moved:
            [line] = generate(server, endpoint, chats, traffic)
        return {**line, "case": case, **moved, "valid": line["valid"] and not moved.get("errors"), **durability}


@contextmanager
def _transferring(folder: Folder, case: str, port: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Transfers beside the block; what they have moved is known after it."""
    moved: dict[str, Any] = {}
    if case == "alone":
        yield moved
        return
    base = f"http://127.0.0.1:{port}"
    part = Part(1, ATTACHMENT_PART_BYTES, sha256(bytes(ATTACHMENT_PART_BYTES)).digest())
    signed = [
        folder.presign_get(KEY, expires_s=86400)
        if case == "downloads"
        else folder.presign_put(f"attachments/02/{n}", part, expires_s=86400)
        for n in range(TRANSFERS)
    ]
    requests = [{"method": each.method, "url": base + each.url, "size_bytes": ATTACHMENT_PART_BYTES} for each in signed]
    file = FOLDER / "transfers.json"
    file.write_text(json.dumps(requests))
    command = [sys.executable, "-m", "bench.transfers", "--seconds", str(seconds), str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=FOLDER.parents[1]) as clients:
        yield moved
        assert clients.stdout is not None
        moved.update(json.loads(clients.stdout.read()))


def summarize_attachments(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The medians, and a line with the requirements (None: unknown)."""
    good = [run for run in runs if run["valid"]]
    rates = {name: _by_round(good, "server", name, "mb_per_s") for name in ("alo", "nginx")}
    of_nginx = ratios(rates["alo"], rates["nginx"])
    p99s = {case: _by_round(good, "case", case, P99) for case in ("alone", "downloads", "uploads")}
    beside = {case: ratios(p99s[case], p99s["alone"]) for case in ("downloads", "uploads")}
    memory = [run["bytes_per_transfer"] for run in good if run["case"] == "memory"]
    lines: list[dict[str, Any]] = [
        {
            "kind": "summary",
            "metric": "mb_per_s",
            **{name: spread(values.values(), 1) for name, values in rates.items()},
            "alo_to_nginx": spread(of_nginx, 3),
        },
        {
            "kind": "summary",
            "metric": P99,
            **{case: spread(values.values(), 3) for case, values in p99s.items()},
            **{f"{case}_to_alone": spread(values, 3) for case, values in beside.items()},
        },
    ]
    lines.append(
        {
            "kind": "requirement",
            "invalid_runs": len(runs) - len(good),
            "half_of_nginx": median(of_nginx) >= LEAST_OF_NGINX if of_nginx else None,
            "memory_at_most_256_kib": max(memory) <= MOST_BYTES if memory else None,
            **{
                f"p99_within_25_percent_beside_{case}": median(values) <= MOST_P99 if values else None
                for case, values in beside.items()
            },
        }
    )
    return lines


def _by_round(runs: Sequence[Mapping[str, Any]], field: str, value: str, metric: str) -> dict[int, float]:
    return {run["round"]: run[metric] for run in runs if run.get(field) == value and run.get(metric) is not None}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.attachments", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chats", type=int, default=32)
    parser.add_argument("--rate", type=float, default=200.0, help="sends a second of all chats together")
    parser.add_argument("--warm", type=float, default=3.0, help="seconds of load before each measurement")
    parser.add_argument("--seconds", type=float, default=10.0, help="measured seconds of each run of sends")
    options = parser.parse_args()
    traffic = Traffic(f"{options.rate:g}", warm_s=options.warm, seconds=options.seconds)
    run_alone(lambda: attachments(AttachmentSettings(options.rounds, options.chats, traffic)))


if __name__ == "__main__":
    main()
