"""SCALE: which processes run, with which numbers, on which ports."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from embedded.errors import EmbeddedError
from embedded.ports import free_port, is_free
from embedded.run import banner_of, choose_metrics_port, choose_ports
from embedded.scaling import PORT_STEP, Instance, instances, read_scale
from runtime.config import PORT_STEP as PORT_STEP_OF_PROCESSES
from tests.rows import each_row

KINDS = {"web": "", "socket": "", "worker": ""}


def free_ports(*steps: int) -> int:
    """A port that is free, as are those so far above it."""
    first = free_port()
    while not all(is_free(first + step) for step in steps):
        first = free_port()
    return first


def test_a_kind_that_the_text_does_not_name_runs_once() -> None:
    assert read_scale("", KINDS) == {"web": 1, "socket": 1, "worker": 1}
    assert read_scale("socket=2, web=3", KINDS) == {"web": 3, "socket": 2, "worker": 1}
    assert read_scale("worker=0", KINDS)["worker"] == 0


@each_row("text", ["socket", "socket=", "socket=two", "socket=-1", "socket=21", "release=2", "other=2"])
def test_a_scale_that_cannot_be_is_refused_with_those_that_can(text: str) -> None:
    with pytest.raises(EmbeddedError, match=rf"^SCALE={text}: it must be a list such as socket=2.*web, socket, worker"):
        read_scale(text, KINDS)


def test_each_process_of_a_kind_has_a_name_and_a_number_of_its_own() -> None:
    made = instances({"web": "w", "socket": "s", "worker": "j"}, {"web": 1, "socket": 2, "worker": 0})
    assert made == {"web": Instance("w", 1), "socket.1": Instance("s", 1), "socket.2": Instance("s", 2)}


def test_the_runner_and_the_processes_agree_on_the_step_between_ports() -> None:
    """A deployment has no `embedded`, and `embedded` knows nothing of the product: so both have the number."""
    assert PORT_STEP == PORT_STEP_OF_PROCESSES


def test_the_port_of_a_further_process_must_be_free_too() -> None:
    web, gateway = free_ports(), free_ports(PORT_STEP)
    given = {"PORT": str(web), "SOCKET_PORT": str(gateway)}
    named = pytest.raises(EmbeddedError, match=f"Port {gateway + PORT_STEP} is taken.*SOCKET_PORT={gateway + 100} make")
    with socket.create_server(("127.0.0.1", gateway + PORT_STEP)):
        assert choose_ports(given) == {"PORT": web, "SOCKET_PORT": gateway}
        with named:
            choose_ports(given, {"socket": 2})
    assert choose_ports(given, {"socket": 2}) == {"PORT": web, "SOCKET_PORT": gateway}


def test_a_port_that_processes_of_two_kinds_would_take_is_named() -> None:
    web = free_ports(PORT_STEP)
    with pytest.raises(EmbeddedError, match=f"Port {web + PORT_STEP} is taken"):
        choose_ports({"PORT": str(web), "SOCKET_PORT": str(web + PORT_STEP)}, {"web": 2})


def test_ports_for_operators_are_free_for_each_process() -> None:
    first = free_ports(1, 2, PORT_STEP + 1)
    with socket.create_server(("127.0.0.1", first + PORT_STEP + 1)):
        assert choose_metrics_port({"METRICS_PORT": str(first)}) == first
        with pytest.raises(EmbeddedError, match=f"Port {first + PORT_STEP + 1} is taken"):
            choose_metrics_port({"METRICS_PORT": str(first)}, {"socket": 2})
    with pytest.raises(EmbeddedError, match="must be 1 to 65524"):
        choose_metrics_port({"METRICS_PORT": "65530"}, {"socket": 2})


def test_the_banner_names_each_process_and_gives_clients_all_gateways() -> None:
    counts = {"web": 2, "socket": 2, "worker": 1}
    banner = banner_of({"PORT": 8000, "SOCKET_PORT": 8001}, {}, Path("var"), metrics=9464, counts=counts)
    assert "\nHTTP       http://127.0.0.1:8000 http://127.0.0.1:8010\n" in banner
    pages = re.findall(r"127\.0\.0\.1:(\d+)/metrics \((\w+)\)", banner)
    expected = [("9464", "web"), ("9474", "web"), ("9465", "socket"), ("9475", "socket"), ("9466", "worker")]
    assert pages == expected
    assert "ALO_SOCKET_URL=ws://127.0.0.1:8001,ws://127.0.0.1:8011 .venv/bin/python -m client chat alice bob" in banner
