"""The figures of files beside their bars, and the clients that measure them."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from bench.attachments import MOST_BYTES, summarize_attachments
from bench.transfers import TransferError, connect, download


def runs(*, ours: float, memory: int, beside: float) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = [{"case": "memory", "valid": True, "bytes_per_transfer": memory}]
    for round_, scale in ((1, 1.0), (2, 10.0)):
        for server, rate in (("alo", ours), ("nginx", 100.0)):
            made.append(
                {"case": "throughput", "valid": True, "round": round_, "server": server, "mb_per_s": rate * scale}
            )
        for case, p99 in (("alone", 8.0), ("downloads", 8.0 * beside), ("uploads", 8.0)):
            made.append({"case": case, "valid": True, "round": round_, "ack_p99_ms": p99 * scale})
    return [*made, {"case": "uploads", "valid": False, "round": 3, "ack_p99_ms": 1e9}]


@pytest.mark.parametrize("is_good", [True, False])
def test_files_are_compared_with_nginx_and_with_sends_alone_round_by_round(is_good: bool) -> None:
    measured = runs(ours=50.0 if is_good else 49.0, memory=MOST_BYTES + (not is_good), beside=1.25 if is_good else 1.26)
    *_, requirement = summarize_attachments(measured)
    assert requirement == {
        "kind": "requirement",
        "invalid_runs": 1,
        "half_of_nginx": is_good,
        "memory_at_most_256_kib": is_good,
        "p99_within_25_percent_beside_downloads": is_good,
        "p99_within_25_percent_beside_uploads": True,
    }


def test_without_nginx_its_bar_is_unknown() -> None:
    measured = [run for run in runs(ours=50.0, memory=1, beside=1.0) if run["case"] != "throughput"]
    assert summarize_attachments(measured)[-1]["half_of_nginx"] is None


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        b"HTTP/1.1 200",
    ],
)
def test_a_download_that_is_refused_or_cut_is_not_measured(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        server = threading.Thread(target=serve)
        server.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/file"
        with connect(url) as connection, pytest.raises(TransferError):
            download(connection, url, memoryview(bytearray(100)))
        server.join()
