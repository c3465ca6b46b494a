"""`make run`: starts the services, the migrations, and all processes of the Procfile in one terminal.

`SCALE=socket=2,web=2 make run` starts two of each of these kinds.
"""

import argparse
import fcntl
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType

from embedded import ports, process
from embedded.errors import EmbeddedError
from embedded.ports import LOOPBACK
from embedded.postgres import PostgresServer
from embedded.private import write_private
from embedded.procfile import RELEASE, Terminal, read_procfile, run_processes, run_release
from embedded.redis import RedisServer
from embedded.scaling import SCALE, instances, ports_of, read_scale

DEFAULT_PORTS = {"PORT": 8000, "SOCKET_PORT": 8001}
KINDS = {"PORT": "web", "SOCKET_PORT": "socket"}
"""Variable -> the kind of process whose port it is."""

METRICS = "METRICS_PORT"
DEFAULT_METRICS_PORT = 9464
OPERATED = ("web", "socket", "worker")
"""Processes with a port for operators: METRICS_PORT, and those after it, in this order."""

# A password in the user part of a URL, or in one of its parameters (`password=`, `sentinel_password=`).
_PASSWORD = re.compile(r"//[^/?#]*:[^/?#]*@|password=")

URLS = "urls.sh"

BANNER = """
Web client {app}/app
HTTP       {http}
WebSocket  {socket}
{metrics}
To chat with yourself, open the web client in two tabs of a browser, and register two users. Or in another terminal:
  {client}.venv/bin/python -m client register alice
  {client}.venv/bin/python -m client register bob
  {client}.venv/bin/python -m client chat alice bob

In a third terminal, to chat:
  {client}.venv/bin/python -m client chat bob alice

To see the state of jobs:
  {jobs}

Ctrl-C stops everything; what was written stays in {var}, attachments in {var}/objects.

"""


def main(arguments: list[str] | None = None) -> int:
    """Run until Ctrl-C, SIGTERM or a closed terminal; the exit status is 0 if all processes stopped in order."""
    parser = argparse.ArgumentParser(prog="python -m embedded.run", description=__doc__)
    parser.add_argument("--procfile", type=Path, default=Path("Procfile"))
    parser.add_argument("--var", type=Path, default=Path("var"), help="where all data is kept")
    options = parser.parse_args(arguments)
    # Until honcho sets its own handlers, each of these signals stops the services that have started.
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts background jobs with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    try:
        return _run(read_procfile(options.procfile), options.var)
    except EmbeddedError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _run(commands: dict[str, str], var: Path) -> int:
    with ExitStack() as stack:
        stack.enter_context(_only_one(var))
        release = commands.pop(RELEASE, None)
        counts = read_scale(os.environ.get(SCALE, ""), commands)
        chosen = choose_ports(os.environ, counts)
        metrics = choose_metrics_port(os.environ, counts)
        started = _start_services(stack, var)
        _tell_terminals(started, var)
        environment = {
            **os.environ,
            **started,
            **_object_store(var),
            **{name: str(port) for name, port in chosen.items()},
            METRICS: str(metrics),
            "WEB_CLIENT": os.environ.get("WEB_CLIENT", "1"),
            "PUBLIC_SOCKET_URL": os.environ.get("PUBLIC_SOCKET_URL", "") or ",".join(_sockets(chosen, counts)),
            # `python` in a Procfile is this Python.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PYTHONUNBUFFERED": "1",
        }
        if Terminal().isatty():
            environment.setdefault("LOG_FORMAT", "console")  # processes write to a pipe, the runner to a terminal
        if release is not None:
            run_release(release, environment)
        shown = shown_urls(environment)
        banner = banner_of(chosen, shown, var, metrics=metrics, is_file=bool(started), counts=counts)
        return run_processes(instances(commands, counts), environment, banner=banner)


def _tell_terminals(started: Mapping[str, str], var: Path) -> None:
    """Write the URLs of the services, with their passwords, into a file for commands in other terminals."""
    lines = [f"export {name}={shlex.quote(url)}\n" for name, url in started.items()]
    write_private(var / URLS, "".join(lines))


def shown_urls(environment: Mapping[str, str]) -> dict[str, str]:
    """The service URLs for the banner. It shows no URL with a password, which the user has at hand."""
    urls = {name: environment.get(name) for name in ("DATABASE_URL", "REDIS_URL", "REDIS_JOBS_URL")}
    return {name: url for name, url in urls.items() if url and not _PASSWORD.search(url)}


def banner_of(
    chosen: Mapping[str, int],
    services: Mapping[str, str],
    var: Path,
    *,
    metrics: int = 0,
    is_file: bool = False,
    counts: Mapping[str, int] = MappingProxyType({}),
) -> str:
    """The commands to type next; they work unchanged with the chosen ports.

    `metrics`: METRICS_PORT. `is_file`: the file `URLS` has URLs for the commands. `counts`: processes by kind.
    """
    https = [f"http://{LOOPBACK}:{port}" for port in ports_of(chosen["PORT"], counts.get("web", 1))]
    sockets = _sockets(chosen, counts)
    is_default = chosen == DEFAULT_PORTS and len(sockets) == 1
    client = "" if is_default else f"ALO_HTTP_URL={''.join(https[:1])} ALO_SOCKET_URL={','.join(sockets)} "
    named = "".join(f"{name}={shlex.quote(url)} " for name, url in services.items())
    jobs = f"{named}.venv/bin/python -m jobs status"
    if is_file:
        jobs = f"(. {shlex.quote(_with_slash(var / URLS))}; {jobs})"
    shown = "".join(_pages(metrics, counts)) if metrics else ""
    http, socket = " ".join(https), " ".join(sockets)
    return BANNER.format(app=https[0], http=http, socket=socket, metrics=shown, client=client, jobs=jobs, var=var)


def _sockets(chosen: Mapping[str, int], counts: Mapping[str, int]) -> list[str]:
    """The URL of each gateway."""
    return [f"ws://{LOOPBACK}:{port}" for port in ports_of(chosen["SOCKET_PORT"], counts.get("socket", 1))]


def _pages(metrics: int, counts: Mapping[str, int]) -> Iterator[str]:
    """A line for the page of metrics of each process."""
    for step, name in enumerate(OPERATED):
        for port in ports_of(metrics + step, counts.get(name, 1)):
            yield f"Metrics    http://{LOOPBACK}:{port}/metrics ({name})\n"


def _with_slash(path: Path) -> str:
    """The path as a shell's `.` takes it, which looks for a name without a slash in PATH."""
    return str(path) if "/" in str(path) else f"./{path}"


@contextmanager
def _only_one(var: Path) -> Iterator[None]:
    var.mkdir(parents=True, exist_ok=True)
    # Elsewhere than on Linux the account that root lends the services has to enter it.
    var.chmod(0o700 if process.LINUX or os.geteuid() != 0 else 0o711)
    with (var / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EmbeddedError(f"Another make run uses {var}: stop it (Ctrl-C in its terminal) first.") from error
        yield


def choose_ports(environment: Mapping[str, str], counts: Mapping[str, int] = MappingProxyType({})) -> dict[str, int]:
    """The ports for clients, of the first process of each kind; those of the others are free, too.

    `counts`: processes by kind; 1 of those that it does not name.
    """
    chosen: dict[str, int] = {}
    used: set[int] = set()
    for name, default in DEFAULT_PORTS.items():
        text = environment.get(name) or str(default)
        ports_here = ports_of(0, counts.get(KINDS[name], 1))
        most = 65535 - (max(ports_here, default=0))
        if not (text.isdecimal() and 0 < int(text) <= most):
            raise EmbeddedError(f"{name}={text}: a port must be 1 to {most}. Run {name}={default} make run.")
        first = int(text)
        other = first + 100 if first < 65_000 else default
        for port in (first + step for step in ports_here):
            try:
                taken = port in used or not ports.is_free(port)
            except PermissionError as error:
                raise EmbeddedError(f"Port {port} is for root alone: run {name}={default} make run.") from error
            if taken:
                raise EmbeddedError(f"Port {port} is taken: stop what is using it, or run {name}={other} make run.")
            used.add(port)
        chosen[name] = first
    return chosen


def choose_metrics_port(environment: Mapping[str, str], counts: Mapping[str, int] = MappingProxyType({})) -> int:
    """METRICS_PORT, from which on a port is free for each process of `OPERATED`; 0: no process has one.

    `counts`: as for `choose_ports`.
    """
    text = environment.get(METRICS) or str(DEFAULT_METRICS_PORT)
    steps = [port for step, name in enumerate(OPERATED) for port in ports_of(step, counts.get(name, 1))]
    most = 65535 - max(steps, default=0)
    if not (text.isdecimal() and int(text) <= most):
        raise EmbeddedError(f"{METRICS}={text}: it must be 1 to {most}, or 0 for none.")
    first = int(text)
    taken = [port for port in (first + step for step in steps) if first and not ports.is_free(port)]
    if taken:
        fault = f"Port {taken[0]} is taken: stop what is using it"
        raise EmbeddedError(f"{fault}, or run {METRICS}={first + 100} make run ({METRICS}=0: no port for metrics).")
    return first


def _start_services(stack: ExitStack, var: Path) -> dict[str, str]:
    """Start the services that the environment does not provide. They stop when the stack unwinds, after the
    processes."""
    urls = {}
    for variable, make in (("DATABASE_URL", PostgresServer), ("REDIS_URL", RedisServer)):
        if os.environ.get(variable):
            continue
        service = make(var / make.name.lower(), has_password=True)
        service.start()
        stack.callback(service.stop)
        urls[variable] = service.url
    return urls


def _object_store(var: Path) -> dict[str, str]:
    """A folder as the object store, unless the environment provides one."""
    return {} if os.environ.get("OBJECT_STORE_URL") else {"OBJECT_STORE_URL": (var / "objects").resolve().as_uri()}


if __name__ == "__main__":
    sys.exit(main())
