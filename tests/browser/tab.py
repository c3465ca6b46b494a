"""Tabs of headless Chromium, which `driver.js` drives."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

import trio

from tests.waiting import DEADLINE_S, wait_until

FOLDER: Final = Path(__file__).parent
INSTALLED: Final = FOLDER.parents[1] / ".venv" / "browser"
"""The files of Debian's packages, as `make browser` extracts them."""

CHROMIUM: Final = INSTALLED / "usr" / "lib" / "chromium" / "chromium-headless-shell"
COMMAND_S: Final = 30.0

_FONTS: Final = """<?xml version="1.0"?>
<fontconfig><dir>{fonts}</dir><cachedir>{cache}</cachedir></fontconfig>
"""


class BrowserError(Exception):
    """The tab could not do it. The text says why."""


class Tab:
    """
    :ivar url: of the server; paths are below it.
    """

    def __init__(self, driver: _Driver, url: str, number: int = 0) -> None:
        self.url = url
        self._driver = driver
        self._number = number

    async def another(self) -> Tab:
        """A further tab of the same browser, with the same storage."""
        return Tab(self._driver, self.url, await self._ask("another"))

    async def open(self, path: str) -> None:
        """Load a page, until its files have come."""
        await self._ask("open", self.url + path)

    async def close(self) -> None:
        """Close it, as a person does; other tabs of the browser stay."""
        await self._ask("close")

    async def press(self, key: str, *held: str) -> None:
        """Press a key as a person does, while others are held: `Tab`, `Enter`."""
        await self._ask("press", key, *held)

    async def type(self, text: str) -> None:
        await self._ask("type", text)

    async def value(self, expression: str) -> Any:
        """What a JavaScript expression gives, as JSON has it; a promise is waited for."""
        return await self._ask("value", expression)

    async def click(self, name: str) -> None:
        """Click the element that a screen reader calls so, once it is there."""
        await self._ask("click", name)

    async def fill(self, name: str, text: str) -> None:
        """Put a text into the field of this label, once it is there."""
        await self._ask("fill", name, text)

    async def choose(self, name: str, path: Path) -> None:
        """Choose a file in the window that the button of this name opens."""
        await self._ask("choose", name, str(path))

    async def wait_named(self, *names: str) -> None:
        """Until there are elements that a screen reader calls so."""
        for name in names:
            await self._ask("named", name)

    async def wait(self, expression: str, what: str, *, timeout_s: float = DEADLINE_S) -> Any:
        """The value of a JavaScript expression, once it is true."""
        return await wait_until(lambda: self.value(expression), what, timeout_s=timeout_s)

    async def text(self, selector: str) -> str:
        return str(await self.value(f"document.querySelector({json.dumps(selector)}).textContent"))

    async def scheme(self, scheme: str) -> None:
        """What the operator's system prefers: `light` or `dark`."""
        await self._ask("scheme", scheme)

    async def size(self, width: int, height: int) -> None:
        await self._ask("size", width, height)

    async def accessible(self) -> list[dict[str, Any]]:
        """What a screen reader is told: the role, the name and more of each element, in order."""
        found, rest = [], [await self._ask("accessible")]
        while rest:
            each = rest.pop()
            rest += reversed(each.pop("children", []))
            found.append(each)
        return found

    async def violations(self) -> list[str]:
        """What axe finds: the rule, its meaning and the elements."""
        found: list[str] = await self._ask("violations")
        return found

    async def picture(self, path: Path) -> None:
        """Write what the window shows to a PNG file."""
        await self._ask("picture", str(path))

    async def requests(self) -> list[str]:
        """The URLs of all requests so far."""
        seen: dict[str, list[str]] = await self._ask("seen")
        return seen["requests"]

    async def complaints(self) -> list[str]:
        """The errors and warnings of the console so far, with uncaught exceptions and what a policy stopped."""
        seen: dict[str, list[str]] = await self._ask("seen")
        return seen["complaints"]

    async def _ask(self, *command: Any) -> Any:
        return await self._driver.ask(self._number, *command)


class _Driver:
    """The process that drives the browser."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._turn = trio.Lock()
        self._rest = b""

    async def ask(self, *command: Any) -> Any:
        """The outcome of a command: the number of a tab, a name and arguments.

        :raises BrowserError: if it has none.
        """
        assert self._process.stdin is not None
        async with self._turn:
            with trio.fail_after(COMMAND_S):
                await self._process.stdin.send_all(json.dumps(command).encode() + b"\n")
                outcome = json.loads(await self._line())
        if "error" in outcome:
            raise BrowserError(f"{command}: {outcome['error']}")
        return outcome["value"]

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._rest:
            chunk = await self._process.stdout.receive_some()
            if not chunk:
                raise BrowserError("the driver has ended; its error is above")
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return line


@asynccontextmanager
async def open_tab(folder: Path, url: str) -> AsyncGenerator[Tab, None]:
    """A tab of a browser of its own; the browser ends with the block.

    :param folder: for its profile, empty.
    """
    assert CHROMIUM.exists(), "`make browser` installs it"
    fonts = folder / "fonts.conf"
    fonts.write_text(_FONTS.format(fonts=escape(str(INSTALLED / "usr" / "share" / "fonts")), cache=escape(str(folder))))
    libraries = [*INSTALLED.glob("usr/lib/*-linux-gnu"), *INSTALLED.glob("lib/*-linux-gnu")]
    libraries += [each / "pulseaudio" for each in libraries]
    given = {
        "program": str(CHROMIUM),
        "profile": str(folder / "profile"),
        "environment": {
            "HOME": str(folder),
            "FONTCONFIG_FILE": str(fonts),
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        },
    }
    process = await trio.lowlevel.open_process(
        ["node", "driver.js", json.dumps(given)], cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield Tab(_Driver(process), url)
    finally:
        with trio.CancelScope(shield=True):
            await _end(process)


async def _end(process: trio.Process) -> None:
    """The driver closes the browser when its input ends; without the driver, Chromium ends by itself."""
    assert process.stdin is not None
    await process.stdin.aclose()
    with trio.move_on_after(COMMAND_S):
        await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()
