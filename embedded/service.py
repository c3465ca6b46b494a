"""The common part of Postgres and Redis: one server process on one data folder and one port."""

import abc
import signal
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from secrets import token_urlsafe

from embedded import ports, process
from embedded.account import account_for
from embedded.errors import EmbeddedError
from embedded.private import write_private
from embedded.programs import Programs, lend, take_back

START_TIMEOUT_S = 60.0  # recovery after a crash reads the log since the last checkpoint
STOP_TIMEOUT_S = 10.0
_KILL_TIMEOUT_S = 10.0
_PORT_ATTEMPTS = 3


class Service(abc.ABC):
    """A server with its files in `folder` (`data/`, `log`, `password`), which listens on the loopback address.

    With `has_password` clients have to know the password in the file, which only the owner of the folder can read.
    Without, any user of this machine may use the server. `port` None means a free port, which stays the same for the
    life of this handle. On Linux the server ends with the process that started it, even if that is killed. Any thread
    may call a method, but only one at a time.
    """

    name: str
    program: str
    pid_file: str  # in `data/`; its first line is the process id
    stop_signals: Sequence[signal.Signals]  # sent in this order, with time after each

    def __init__(self, folder: Path, *, port: int | None = None, has_password: bool = False) -> None:
        self.has_password = has_password
        self.folder = folder.resolve()
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self._port = port
        self._password: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        # On Linux a child ends with the *thread* that forked it, and a caller's worker thread may end at any time. This
        # thread lives until the handle stops or the interpreter ends.
        self._spawner: ThreadPoolExecutor | None = None

    @property
    def port(self) -> int:
        """The port; raises EmbeddedError before the first start of a handle without a given port."""
        if self._port is None:
            raise EmbeddedError(f"{self.name} has no port before its first start.")
        return self._port

    @property
    def password(self) -> str | None:
        """The password, None without one; raises EmbeddedError before the first start of a handle with one."""
        if self.has_password and self._password is None:
            raise EmbeddedError(f"{self.name} has no password before its first start.")
        return self._password

    @property
    def pid(self) -> int:
        """The id of the server's process; raises EmbeddedError if the server is not running."""
        if self._process is None or self._process.poll() is not None:
            raise EmbeddedError(f"{self.name} is not running.")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server and return when it answers; do nothing if it runs already.

        This first stops a server that a killed process left on this data. Raises EmbeddedError if the port is taken or
        the server does not start; then no process is left.
        """
        if self.is_running:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.has_password:
            self._password = self._found_password()
        self._end_previous()
        if self._port is not None and not ports.is_free(self._port):
            raise EmbeddedError(f"Port {self._port} is taken: stop what is using it, or give {self.name} another port.")
        account = account_for(self.data)
        programs = lend(self._programs(), account, self.folder)
        try:
            self._prepare(programs)
            for attempt in range(1, _PORT_ATTEMPTS + 1):
                port = self._port or ports.free_port()
                if self._launch(programs, port):
                    self._port = port
                    return
                # Another process may take a free port before the server uses it.
                if self._port is not None or ports.is_free(port) or attempt == _PORT_ATTEMPTS:
                    raise EmbeddedError(f"{self.name} did not start ({self._last_line()}): see {self.log}.")
        except BaseException:
            self.kill()
            self._release()
            raise

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End the server in order; by the next signal after `timeout_s`, and finally by SIGKILL."""
        for number in self.stop_signals:
            if self._process is None or not self.is_running:
                break
            process.send([self._process.pid], number)
            self.resume()
            process.wait_until(lambda: not self.is_running, timeout_s)
        self.kill()
        self._release()

    def kill(self) -> None:
        """SIGKILL the server, as in a crash, and return once its children are gone too."""
        if self._process is None:
            return
        if self.is_running:  # otherwise another server may run on this data
            _kill_all(self._process.pid, self.processes)
        self._process.wait()
        self._process = None

    def restart(self) -> None:
        """Stop and start again on the same port."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the server and its children (SIGSTOP): connections stay open without answers."""
        process.send([self.pid], signal.SIGSTOP)  # the server first, so that it starts no further child
        process.send(self.processes(), signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        process.send(self.processes(), signal.SIGCONT)

    @abc.abstractmethod
    def _programs(self) -> Programs:
        """Find the programs; raises EmbeddedError, which says how to get them."""

    @abc.abstractmethod
    def _prepare(self, programs: Programs) -> None:
        """Make the data folder if it does not exist."""

    @abc.abstractmethod
    def _command(self, programs: Programs, port: int) -> list[str]:
        """The command that runs the server in the foreground, with the data as its working directory."""

    @abc.abstractmethod
    def _is_ready(self, port: int, pid: int) -> bool:
        """Whether the server answers queries."""

    def _launch(self, programs: Programs, port: int) -> bool:
        if self._spawner is None:
            self._spawner = ThreadPoolExecutor(1, thread_name_prefix=f"{self.name} spawner")
        with self.log.open("ab") as log:
            started = self._spawner.submit(
                process.spawn,
                self._command(programs, port),
                folder=self.data,
                log=log,
                account=account_for(self.data),
                death_signal=self.stop_signals[0],
            ).result()
        self._process = started
        process.wait_until(lambda: started.poll() is not None or self._is_ready(port, started.pid), START_TIMEOUT_S)
        return started.poll() is None and self._is_ready(port, started.pid)

    def _found_password(self) -> str:
        file = self.folder / "password"
        if file.exists():
            return file.read_text()
        if self.data.exists():
            raise EmbeddedError(f"{self.data} was made without a password: remove it with all its data (make clean).")
        password = token_urlsafe(24)
        write_private(file, password)
        return password

    def _own_data(self) -> None:
        account = account_for(self.data)
        if account is None or self.data.stat().st_uid == account.uid:
            return
        try:
            account.own(self.data)
        except OSError as error:
            raise EmbeddedError(
                f"{self.name} must not run as root, and its data cannot be given to another user here"
                f" ({error.strerror}): start this as an ordinary user, or bring your own {self.name}."
            ) from error

    def processes(self) -> list[int]:
        """The server of this data and its children, also those that another process started."""
        return process.running_in(self.data, self.program, self._noted_pid())

    def _noted_pid(self) -> int | None:
        try:
            return int((self.data / self.pid_file).read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return None
        except PermissionError as error:
            raise EmbeddedError(
                f"{self.data} belongs to another user: start this as that user, or move the folder away."
            ) from error

    def _end_previous(self) -> None:
        noted, found = self._noted_pid(), self.processes()
        process.send([pid for pid in found if pid == noted], self.stop_signals[0])
        process.send(found, signal.SIGCONT)
        if not process.wait_until(lambda: not self.processes(), STOP_TIMEOUT_S):
            _kill_all(noted, self.processes)
        # Another process may have the id in this file by now, and Postgres would take that for a running server.
        (self.data / self.pid_file).unlink(missing_ok=True)

    def _release(self) -> None:
        if self._spawner is not None:
            self._spawner.shutdown()
            self._spawner = None
        take_back(self.folder)

    def _last_line(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return lines[-1].strip() if lines else "its log is empty"


def _kill_all(server: int | None, find: Callable[[], list[int]]) -> None:
    """SIGKILL the server, wait for its children to end, and SIGKILL the rest."""
    pids = set(find())
    process.send([pid for pid in pids if pid == server], signal.SIGKILL)
    process.send(sorted(pids), signal.SIGCONT)  # frozen children could not end
    if not process.wait_until(lambda: pids.isdisjoint(find()), _KILL_TIMEOUT_S):
        process.send(sorted(pids.intersection(find())), signal.SIGKILL)
        process.wait_until(lambda: pids.isdisjoint(find()), _KILL_TIMEOUT_S)
