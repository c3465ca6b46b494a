"""What a chat tells of the keys of its users: new devices, and safety numbers to compare."""

from __future__ import annotations

from collections.abc import Callable

from client.commands import NotPossible
from client.e2ee.correspondent import Correspondent
from client.e2ee.known import DIGITS
from client.e2ee.records import KeyChange, Recipient
from client.known_devices import DeviceEvent
from client.lines import name_of
from protocol.frames import Undecryptable
from protocol.limits import MAX_TOLD_REPORTS

_EVENTS: dict[DeviceEvent, str] = {
    "new": "has a new device",
    "gone": "has a device less",
    "changed": "has a device with other keys",
}


class Safety:
    """The safety numbers of a chat.

    :param me: the user of this device.
    :param names: of the participants.
    """

    def __init__(self, me: bytes, names: dict[bytes, str], show: Callable[[str], object]) -> None:
        self._me = me
        self._names = names
        self._show = show
        self._left_out: set[bytes] = set()
        self._without: set[bytes] = set()
        self._correspondent: Correspondent | None = None
        self._asked: list[Undecryptable] = []

    def watch(self, correspondent: Correspondent) -> None:
        """The chat encrypts by this correspondent."""
        self._correspondent = correspondent
        for push in self._asked:
            correspondent.healer.note_undecryptable(push)
        self._asked.clear()

    def note_undecryptable(self, push: Undecryptable) -> None:
        """A device cannot decrypt a message of this one. Some come with the welcome, before the chat encrypts."""
        if self._correspondent is not None:
            self._correspondent.healer.note_undecryptable(push)
        elif len(self._asked) < MAX_TOLD_REPORTS:
            self._asked.append(push)

    def note_low_keys(self) -> None:
        """The server has few keys of this device."""
        if self._correspondent is not None:
            self._correspondent.publisher.note_low_keys()

    def show_change(self, change: KeyChange) -> None:
        """A user's devices have changed."""
        if change.user == self._me:
            self._show(
                f"-- {_EVENTS[change.event].replace('has', 'you have', 1)}: all your safety numbers have changed"
            )
        else:
            name = name_of(change.user, self._names)
            self._show(f"-- {name} {_EVENTS[change.event]}: the safety number has changed; see /verify {name}")

    def show_without_keys(self, conversation: bytes) -> None:
        """Tell of users none of whose devices has published keys."""
        if self._correspondent is None:
            return
        have = {recipient.user for recipient in self._correspondent.keyring.recipients(conversation)}
        for user in sorted(self._names.keys() - have - {self._me} - self._without):
            self._without.add(user)
            name = name_of(user, self._names)
            self._show(f"-- {name} has no device with keys: {name} will not be able to read what you write now")

    def show_left_out(self, recipients: list[Recipient]) -> None:
        """Devices get no key, since they have published none."""
        for recipient in recipients:
            if recipient.device not in self._left_out:
                self._left_out.add(recipient.device)
                self._show(
                    f"-- {name_of(recipient.user, self._names)} has a device that cannot read what is written now"
                )

    async def verify(self, conversation: bytes, argument: str) -> None:
        """Show the safety number with a user, or compare it: `[NAME] [NUMBER]`.

        :raises NotPossible: if the number is another one, or it is not clear with whom.
        """
        if self._correspondent is None:
            raise NotPossible("this client does not encrypt, so there is no safety number")
        await self._correspondent.sets.refresh(conversation)
        user, typed = self._read(argument)
        name = name_of(user, self._names)
        number, is_verified = self._correspondent.keyring.safety_number(user)
        if not typed:
            said = {True: "; you have compared it", False: "; it is another one than you have compared", None: ""}
            self._show(f"-- the safety number with {name}{said[is_verified]}: {_grouped(number)}")
            self._show(f"-- compare it with what {name} sees, but not in this chat; then: /verify {name} NUMBER")
        elif typed == number:
            self._correspondent.keyring.verify(user, number)
            self._show(f"-- that is the safety number with {name}: nobody reads along")
        else:
            raise NotPossible(
                f"that is not the safety number with {name}: it was typed wrong, or somebody may read along"
            )

    def _read(self, argument: str) -> tuple[bytes, str]:
        """The user, and the number without spaces; empty if there is none."""
        words = argument.split()
        others = {name: user for user, name in self._names.items() if user != self._me}
        name = words.pop(0) if words and words[0] in others else None
        typed = "".join(words)
        if typed and not (typed.isascii() and typed.isdecimal() and len(typed) == 2 * DIGITS):
            raise NotPossible(f"a safety number has {2 * DIGITS} digits; /verify NAME shows it")
        if name is None and len(others) != 1:
            raise NotPossible(f"say with whom: /verify NAME, which is one of {', '.join(sorted(others))}")
        return next(iter(others.values())) if name is None else others[name], typed


def _grouped(number: str) -> str:
    return " ".join(number[start : start + 5] for start in range(0, len(number), 5))
