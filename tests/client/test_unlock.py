"""The file of keys beside a login, and messages over HTTP that need it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from client.e2ee import SEALED
from client.e2ee.contents import Plaintext
from client.e2ee.reading import UnreadableMessage
from client.e2ee.vault import WrongPassphrase
from client.http import Credentials, HttpClient, MessagePage
from client.login import LoginFile
from client.unlock import HistoryReader, forget_keys, open_keyring, sending_folder, vault_path
from tests.client.client_world import CREDENTIALS, TALK, message
from tests.client.e2ee.keyring_world import KeyringWorld, cheap_passphrases, keyring_world


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    cheap_passphrases(monkeypatch.setattr)


def test_each_device_of_a_name_has_keys_of_its_own_which_its_passphrase_opens() -> None:
    login = LoginFile("http://server.test", "ann")
    other = Credentials(CREDENTIALS.user, b"e" * 16, "token")
    with closing(open_keyring(login, CREDENTIALS, "one")), closing(open_keyring(login, other, "two")):
        assert vault_path(login, CREDENTIALS.device) != vault_path(login, other.device)
    with pytest.raises(WrongPassphrase):
        open_keyring(login, CREDENTIALS, "two")


def test_logging_out_removes_the_keys_of_this_name_and_of_no_other() -> None:
    login, other = LoginFile("http://server.test", "ann"), LoginFile("http://server.test", "anna")
    for each in (login, other):
        open_keyring(each, CREDENTIALS, "one").close()
    sending_folder(login).mkdir()
    (sending_folder(login) / "ciphertext").write_bytes(b"x")
    forget_keys(login)
    left = sorted(path.name for path in login.path.parent.iterdir() if path.suffix == ".keys")
    assert left == [vault_path(other, CREDENTIALS.device).name]
    assert not list(sending_folder(login).iterdir())


class Pages(HttpClient):
    """History over HTTP, of a world of keyrings as one device is shown it."""

    def __init__(self, world: KeyringWorld, number: int) -> None:
        self._world, self._number = world, number
        self.asked = 0

    async def history(self, conversation: bytes, *, limit: int = 50, cursor: str | None = None) -> MessagePage:
        self.asked += 1
        device = self._world.devices[self._number]
        end = len(self._world.messages) if cursor is None else int(cursor)
        some = self._world.messages[max(end - 2, 0) : end]
        shown = [replace(self._world.shown_to(device, *each), created=2**60) for each in reversed(some)]
        return MessagePage(shown, str(end - 2) if end > 2 else None)


async def test_a_message_over_http_whose_key_this_device_has_missed_is_read_after_catching_up(tmp_path: Path) -> None:
    with keyring_world(tmp_path) as world:
        alice, bob = world.join("alice"), world.join("bob")
        take, bob.keyring.keep = bob.keyring.keep, lambda _: None  # type: ignore[method-assign]
        for number in range(5):
            last = world.send(alice, str(number))
        bob.keyring.keep = take  # type: ignore[method-assign]
        http = Pages(world, 1)
        reader = HistoryReader(http, lambda: bob.keyring)
        assert await reader.read(last) == Plaintext("4")
        assert http.asked == 3
        assert bob.keyring.progress(last.conversation) == last.seq
        unknown = replace(last, message=b"m" * 16, content=last.content.replace(last.content[10:14], b"----"))
        assert await reader.read(unknown) == UnreadableMessage("no_key")
        assert http.asked == 3, "once for each conversation"


async def test_keys_are_opened_for_the_first_encrypted_message_alone(tmp_path: Path) -> None:
    with keyring_world(tmp_path) as world:

        def never() -> None:
            raise AssertionError("no message needs the keys")

        reader = HistoryReader(Pages(world, 0), never)  # type: ignore[arg-type]
        assert await reader.read(message(TALK, 1, content=b"open")) is None
        without = HistoryReader(Pages(world, 0), None)
        sealed = replace(message(TALK, 1), content_type=SEALED)
        assert await without.read(sealed) == UnreadableMessage("no_key")
