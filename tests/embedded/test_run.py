import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
import redis

from embedded.errors import EmbeddedError
from embedded.ports import free_port, is_free
from embedded.procfile import run_release
from embedded.programs import take_back
from embedded.run import banner_of, choose_metrics_port, choose_ports, shown_urls
from store.objects.url import parse_objects_url
from tests.embedded.embedded_world import ROOT, needs_linux, nothing_runs_in, wait_ended
from tests.processes import three_free_ports
from tests.waiting import wait_until_blocking

# Listens on the port that the variable names, if it does, and is ready then; drains for a while on SIGTERM.
PROCESS = """
import os, signal, socket, sys, threading
variable, drain_s = sys.argv[1:]
told = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: told.set())
listener = socket.create_server(("127.0.0.1", int(os.environ[variable]))) if variable in os.environ else None
print("pid", os.getpid(), sys.executable, flush=True)
print(os.environ["READY_LINE"], flush=True)
while not told.wait(0.05):
    pass
told.clear()
told.wait(float(drain_s))
for name in ("DATABASE_URL", "REDIS_URL"):
    host, port = os.environ[name].split("//")[1].split("@")[-1].split("/")[0].split(":")
    socket.create_connection((host, int(port))).close()
print("drained while both services answer", flush=True)
"""
NO_SERVICES = {"DATABASE_URL": "postgresql://nowhere.invalid/x", "REDIS_URL": "redis://nowhere.invalid"}


class Runner:
    """`python -m embedded.run` with a Procfile of the test's."""

    def __init__(self, folder: Path) -> None:
        self.program = ["-m", "embedded.run"]
        self.var = folder / "var"
        self.procfile = folder / "Procfile"
        self.script = folder / "process.py"
        self.script.write_text(PROCESS)
        self.ports = [free_port(), free_port()]
        self.settings = {"PORT": str(self.ports[0]), "SOCKET_PORT": str(self.ports[1]), "METRICS_PORT": "0"}
        self.process: subprocess.Popen[str] | None = None
        self._lines: list[str] = []
        self._reader: threading.Thread | None = None

    def start(self, commands: Mapping[str, str], **environment: str) -> None:
        self.procfile.write_text("".join(f"{name}: {command}\n" for name, command in commands.items()))
        self.process = subprocess.Popen(
            [sys.executable, *self.program, "--procfile", self.procfile, "--var", self.var],
            cwd=ROOT,
            env={**os.environ, **self.settings, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self.process,))
        self._reader.start()

    def command(self, variable: str = "NONE", drain_s: float = 0.0) -> str:
        return f'python "{self.script}" {variable} {drain_s}'

    def wait_output(self, text: str) -> None:
        wait_until_blocking(lambda: text in self.output, lambda: f"{text!r} in {self.output}", timeout_s=30)

    @property
    def output(self) -> str:
        return "".join(self._lines)

    def pids(self) -> list[int]:
        """All it has told of: honcho's, and the processes' own."""
        return [int(number) for number in re.findall(r"\bpid[ =](\d+)", self.output)]

    def wait(self) -> int:
        assert self.process is not None
        assert self._reader is not None
        status = self.process.wait(60)
        self._reader.join(60)  # it reads until no process holds the output
        return status

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as output:
            self._lines.extend(output)


def read_to_the_end(descriptor: int) -> str:
    """All that is written to a pipe or a terminal until the last writer has closed it."""
    data = b""
    with suppress(OSError):  # EIO, from a terminal
        while chunk := os.read(descriptor, 65536):
            data += chunk
    os.close(descriptor)
    return data.decode()


@pytest.fixture
def runner(folder: Path) -> Iterator[Runner]:
    made = Runner(folder)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.send(signal.SIGTERM)
        made.wait()


def test_ctrl_c_drains_the_processes_before_the_services_stop_and_leaves_nothing(runner: Runner) -> None:
    runner.start(
        {
            "release": "echo released",
            "web": runner.command("PORT"),
            "socket": runner.command("SOCKET_PORT", drain_s=1.0),
            "worker": runner.command(drain_s=0.3),
        }
    )
    runner.wait_output("chat alice bob")
    assert f"http://127.0.0.1:{runner.ports[0]}\n" in runner.output
    assert f"ws://127.0.0.1:{runner.ports[1]}\n" in runner.output
    assert "/var/urls.sh'; .venv/bin/python -m jobs status)\n" in runner.output
    assert runner.output.index("released") < runner.output.index("web ")
    wait_until_blocking(lambda: len(runner.pids()) == 6, "six processes have told their ids")
    pids = runner.pids()
    runner.send(signal.SIGINT)
    assert runner.wait() == 0, runner.output
    assert runner.output.count("drained while both services answer") == 3, runner.output
    wait_ended(pids)
    for data in (runner.var / "postgres" / "data", runner.var / "redis" / "data"):
        assert data.is_dir(), "the next run finds its data where this one left it"
        assert nothing_runs_in(data)
    assert all(map(is_free, runner.ports))


def test_the_banner_is_the_last_thing_that_is_printed_at_a_start(runner: Runner, folder: Path) -> None:
    """Even if a process is late, and the others have printed lines by then."""
    gate = folder / "gate"
    late = f'until [ -e "{gate}" ]; do sleep 0.05; done; echo late; echo $READY_LINE; exec sleep 60'
    (folder / "late.sh").write_text(late)
    runner.start(
        {"web": runner.command("PORT"), "socket": runner.command("SOCKET_PORT"), "worker": f'sh "{folder}/late.sh"'},
        **NO_SERVICES,
    )
    wait_until_blocking(lambda: len(runner.pids()) == 5, "five processes have told their ids")
    assert "chat alice bob" not in runner.output
    gate.touch()
    runner.wait_output("Ctrl-C")
    runner.send(signal.SIGINT)
    runner.wait()
    before, _, after = runner.output.partition("\nHTTP ")
    assert all(f" {name} " in before for name in ("web", "socket", "worker"))
    assert "| late\n" in before
    assert after.partition("\n\nCtrl-C stops everything")[2].splitlines()[2].endswith(" system | SIGINT received")
    assert not re.search(r"\| [0-9a-f]{64}$", runner.output, re.MULTILINE)


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("chosen", ["", "json"])
def test_processes_log_for_people_if_the_runner_writes_to_a_terminal(
    runner: Runner, is_terminal: bool, chosen: str
) -> None:
    """The processes write to a pipe. A format in the environment wins."""
    runner.procfile.write_text("release: echo release=$LOG_FORMAT.\nweb: echo web=$LOG_FORMAT.\n")
    ours, theirs = os.openpty() if is_terminal else os.pipe()
    environment = {**os.environ, **NO_SERVICES, "PORT": str(runner.ports[0]), "SOCKET_PORT": str(runner.ports[1])}
    environment.pop("LOG_FORMAT", None)
    with subprocess.Popen(
        [sys.executable, *runner.program, "--procfile", runner.procfile, "--var", runner.var],
        cwd=ROOT,
        env={**environment, **({"LOG_FORMAT": chosen} if chosen else {})},
        stdout=theirs,
        stderr=theirs,
    ):
        os.close(theirs)
        output = read_to_the_end(ours)
    expected = chosen or ("console" if is_terminal else "")
    assert f"release={expected}." in output
    assert f"web={expected}." in output


@pytest.mark.parametrize("ports", [(8000, 8001), (8000, 9001), (9000, 8001)])
def test_the_printed_commands_name_the_ports_that_were_chosen(ports: tuple[int, int]) -> None:
    """Without the URLs, a client would send its password to the process that listens on the default ports."""
    http, socket = ports
    banner = banner_of({"PORT": http, "SOCKET_PORT": socket}, {"REDIS_URL": "redis://h/1 2"}, Path("var"))
    assert f"Web client http://127.0.0.1:{http}/app\n" in banner
    commands = re.findall(r"  (.*) -m client (.*)", banner)
    assert [what for _, what in commands] == ["register alice", "register bob", "chat alice bob", "chat bob alice"]
    urls = f"ALO_HTTP_URL=http://127.0.0.1:{http} ALO_SOCKET_URL=ws://127.0.0.1:{socket} "
    assert {how for how, _ in commands} == {("" if ports == (8000, 8001) else urls) + ".venv/bin/python"}
    assert "  REDIS_URL='redis://h/1 2' .venv/bin/python -m jobs status\n" in banner


def test_the_banner_names_the_page_of_metrics_of_each_process() -> None:
    banner = banner_of({"PORT": 8000, "SOCKET_PORT": 8001}, {}, Path("var"), metrics=9464)
    pages = ["http://127.0.0.1:9464 web", "http://127.0.0.1:9465 socket", "http://127.0.0.1:9466 worker"]
    assert [" ".join(each) for each in re.findall(r"(http://\S+)/metrics \((\w+)\)", banner)] == pages
    assert "/metrics" not in banner_of({"PORT": 8000, "SOCKET_PORT": 8001}, {}, Path("var"), metrics=0)


def test_the_processes_serve_the_web_client_unless_it_is_switched_off(runner: Runner) -> None:
    command = {"web": 'echo "web client: $WEB_CLIENT $PUBLIC_SOCKET_URL"'}
    runner.start(command, **NO_SERVICES)
    runner.wait_output(f"web client: 1 ws://127.0.0.1:{runner.ports[1]}")
    runner.wait()
    runner.start(command, WEB_CLIENT="0", PUBLIC_SOCKET_URL="wss://chat.example", **NO_SERVICES)
    runner.wait_output("web client: 0 wss://chat.example")
    runner.wait()


def test_the_processes_get_the_port_for_operators_that_was_free(runner: Runner) -> None:
    runner.settings["METRICS_PORT"] = str(first := three_free_ports())
    runner.start({"web": runner.command("METRICS_PORT")}, **NO_SERVICES)
    runner.wait_output(f"http://127.0.0.1:{first + 2}/metrics (worker)")
    assert not is_free(first)
    runner.send(signal.SIGINT)
    assert runner.wait() in (0, 1)


@pytest.mark.parametrize(
    ("text", "says"), [("65534", "must be 1 to 65533"), ("x", "must be 1 to 65533"), ("-1", "must be 1 to 65533")]
)
def test_a_port_for_operators_without_room_for_all_processes_is_refused(text: str, says: str) -> None:
    with pytest.raises(EmbeddedError, match=says):
        choose_metrics_port({"METRICS_PORT": text})


def test_a_taken_port_among_those_for_operators_is_named_with_the_way_out() -> None:
    first = three_free_ports()
    named = pytest.raises(EmbeddedError, match=f"Port {first + 1} is taken.*METRICS_PORT={first + 100} make run")
    with socket.create_server(("127.0.0.1", first + 1)), named:
        choose_metrics_port({"METRICS_PORT": str(first)})
    assert choose_metrics_port({"METRICS_PORT": str(first)}) == first
    assert choose_metrics_port({"METRICS_PORT": "0"}) == 0


def test_a_process_that_ignores_the_signal_is_killed_at_the_deadline_and_that_is_a_failure(runner: Runner) -> None:
    runner.program = [
        "-c",
        "import sys, embedded.procfile as p, embedded.run as r; p.KILL_WAIT_S = 1; sys.exit(r.main())",
    ]
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); signal.pause()"
    runner.script.write_text(stubborn)
    runner.start({"web": runner.command(), "socket": "sleep 60"}, **NO_SERVICES)
    runner.wait_output("deaf")
    runner.wait_output("socket started")
    runner.send(signal.SIGINT)
    assert runner.wait() == 1
    wait_ended(runner.pids())


def test_a_signal_before_all_processes_have_started_stops_them_too(runner: Runner) -> None:
    runner.start({"release": "echo released", "web": "sleep 60", "worker": "sleep 60"}, **NO_SERVICES)
    runner.wait_output("released")
    runner.send(signal.SIGTERM)
    assert runner.wait() == 0, runner.output
    wait_ended(runner.pids())


def test_a_signal_that_comes_as_the_release_step_ends_stops_the_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command has ended and been waited for: there is no process left to signal."""
    real = subprocess.Popen.wait

    def wait(release: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        real(release, timeout)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    with pytest.raises(KeyboardInterrupt):
        run_release("true", os.environ)


def test_an_output_that_went_away_does_not_keep_it_from_draining(runner: Runner, folder: Path) -> None:
    drained = folder / "drained"
    shell = f"trap 'touch \"{drained}\"; exit' TERM; echo ready; while true; do sleep 0.05; done"
    (folder / "loop.sh").write_text(shell)
    runner.procfile.write_text(f'web: sh "{folder}/loop.sh"\n')
    with subprocess.Popen(
        [sys.executable, *runner.program, "--procfile", runner.procfile, "--var", runner.var],
        cwd=ROOT,
        env={**os.environ, **NO_SERVICES, "PORT": str(runner.ports[0]), "SOCKET_PORT": str(runner.ports[1])},
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if b"ready" in line:
                break
        process.stdout.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert drained.exists()


def test_the_python_of_a_procfile_is_the_one_that_runs_it(runner: Runner) -> None:
    runner.start({"release": 'python -c "import sys; print(sys.executable)"', "web": "true"}, **NO_SERVICES)
    runner.wait()
    assert sys.executable in runner.output


def test_objects_are_kept_beside_the_data_of_the_services_unless_told_otherwise(runner: Runner) -> None:
    """Its folder has a space in its path here."""
    commands = {"release": "echo url=$OBJECT_STORE_URL", "web": "true"}
    runner.start(commands, **NO_SERVICES)
    runner.wait()
    [url] = re.findall(r"url=(\S+)", runner.output)
    assert parse_objects_url(url) == runner.var.resolve() / "objects"
    runner.start(commands, **NO_SERVICES, OBJECT_STORE_URL="s3://a:b@nowhere.invalid/bucket")
    runner.wait()
    assert "url=s3://a:b@nowhere.invalid/bucket\n" in runner.output


def test_own_urls_are_used_and_no_service_is_started(runner: Runner) -> None:
    runner.start({"release": "echo $DATABASE_URL $REDIS_URL", "web": "true"}, **NO_SERVICES)
    runner.wait()
    assert " ".join(NO_SERVICES.values()) in runner.output
    assert {path.name for path in runner.var.iterdir()} == {"lock", "urls.sh"}
    assert (runner.var / "urls.sh").read_text() == ""


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, ""),
        (NO_SERVICES, "DATABASE_URL=postgresql://nowhere.invalid/x REDIS_URL=redis://nowhere.invalid "),
        ({"REDIS_JOBS_URL": "redis://h/1"}, "REDIS_JOBS_URL=redis://h/1 "),
        (
            {"REDIS_URL": "redis://:secret@h/0", "DATABASE_URL": "postgresql://u@h/d"},
            "DATABASE_URL=postgresql://u@h/d ",
        ),
        ({"DATABASE_URL": "postgresql://h/d?user=u&password=secret", "OPS_TOKEN": "secret"}, ""),
    ],
)
def test_the_command_for_jobs_names_services_of_the_environment_but_no_password(
    given: dict[str, str], named: str
) -> None:
    banner = banner_of({"PORT": 8000, "SOCKET_PORT": 8001}, shown_urls(given), Path("var"))
    assert f"\n  {named}.venv/bin/python -m jobs status\n" in banner
    assert "secret" not in banner


def test_one_process_that_ends_by_itself_stops_the_others_and_is_a_failure(runner: Runner) -> None:
    runner.start({"web": "true", "worker": "sleep 60"}, **NO_SERVICES)
    assert runner.wait() == 1
    wait_ended(runner.pids())


def test_a_failing_release_is_the_end(runner: Runner) -> None:
    runner.start({"release": "exit 3", "web": "echo never"})
    assert runner.wait() == 1
    assert "failed with status 3" in runner.output
    assert "never" not in runner.output
    assert nothing_runs_in(runner.var / "postgres" / "data")


def test_a_signal_during_the_release_stops_it_and_the_services(runner: Runner) -> None:
    runner.start({"release": "echo pid $$; exec sleep 60", "web": "echo never"})
    runner.wait_output("pid")
    runner.send(signal.SIGTERM)
    assert runner.wait() == 0, runner.output
    assert "never" not in runner.output
    wait_ended(runner.pids())
    assert nothing_runs_in(runner.var / "postgres" / "data")


def test_a_taken_port_is_one_sentence_that_says_what_to_do(runner: Runner) -> None:
    with socket.create_server(("127.0.0.1", runner.ports[1])) as taken:
        port = taken.getsockname()[1]
        runner.start({"web": "echo never"}, **NO_SERVICES)
        assert runner.wait() == 1
    assert runner.output == (
        f"Port {port} is taken: stop what is using it, or run SOCKET_PORT={port + 100} make run.\n"
    )


@pytest.mark.parametrize("text", ["99999", "0", "-1", "web"])
def test_a_number_that_cannot_be_a_port_is_refused_with_those_that_can(text: str) -> None:
    with pytest.raises(EmbeddedError, match=rf"^PORT={text}: a port must be 1 to 65535\."):
        choose_ports({"PORT": text})


def test_only_one_runs_at_a_time(runner: Runner, folder: Path) -> None:
    runner.start({"web": "echo pid $$; exec sleep 60"}, **NO_SERVICES)
    runner.wait_output("web started")
    (folder / "second").mkdir()
    second = Runner(folder / "second")
    second.var = runner.var
    second.start({"web": "echo never"}, **NO_SERVICES)
    assert second.wait() == 1
    assert second.output.startswith("Another make run uses")
    assert second.output.count("\n") == 1


@needs_linux
def test_nothing_survives_a_runner_that_is_killed(runner: Runner) -> None:
    runner.start({"web": runner.command("PORT"), "socket": runner.command("SOCKET_PORT")})
    runner.wait_output("chat alice bob")
    wait_until_blocking(lambda: len(runner.pids()) == 4, "four processes have told their ids")
    runner.send(signal.SIGKILL)
    runner.wait()
    wait_ended(runner.pids())
    wait_until_blocking(lambda: nothing_runs_in(runner.var / "postgres" / "data"), "Postgres has ended")
    wait_until_blocking(lambda: nothing_runs_in(runner.var / "redis" / "data"), "Redis has ended")
    take_back(runner.var / "postgres")
    take_back(runner.var / "redis")


@needs_linux
def test_no_other_user_of_the_machine_gets_at_the_services(runner: Runner) -> None:
    """The files of `var/` are private, the servers want a password, and no argument of a process has it."""
    runner.start({"web": runner.command("PORT")})
    runner.wait_output("jobs status")
    assert stat.S_IMODE(runner.var.stat().st_mode) == 0o700
    for name in ("urls.sh", "postgres/password", "redis/password", "redis/data/redis.conf"):
        assert stat.S_IMODE((runner.var / name).stat().st_mode) == 0o600, name
    for name in ("postgres/data", "redis/data"):
        assert stat.S_IMODE((runner.var / name).stat().st_mode) == 0o700, name
    printed = f". {shlex.quote(str(runner.var / 'urls.sh'))}; echo $DATABASE_URL $REDIS_URL"
    database_url, redis_url = subprocess.check_output(["sh", "-c", printed], text=True).split()
    with psycopg.connect(database_url) as connection:
        assert connection.execute("show listen_addresses").fetchone() == ("127.0.0.1",)
        assert connection.execute("show unix_socket_directories").fetchone() == ("",)
    secrets = [(runner.var / name / "password").read_text() for name in ("postgres", "redis")]
    for wrong in ("", ":", ":wrong"):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(database_url.replace(f":{secrets[0]}", wrong))
    with redis.Redis.from_url(redis_url) as known:
        assert known.ping()
    for wrong in ("", ":wrong@"):
        with (
            redis.Redis.from_url(redis_url.replace(f":{secrets[1]}@", wrong)) as unknown,
            pytest.raises(redis.RedisError, match=r"(?i)authenticat|password"),
        ):
            unknown.ping()
    for pid in (entry for entry in Path("/proc").iterdir() if entry.name.isdecimal()):
        with suppress(OSError):
            arguments = (pid / "cmdline").read_bytes()
            assert not any(secret.encode() in arguments for secret in secrets), arguments
    assert not any(secret in runner.output for secret in secrets)


def test_data_from_before_there_were_passwords_is_not_used(runner: Runner) -> None:
    (runner.var / "postgres" / "data").mkdir(parents=True)
    runner.start({"web": "true"})
    assert runner.wait() == 1
    assert "made without a password" in runner.output
    assert "make clean" in runner.output
