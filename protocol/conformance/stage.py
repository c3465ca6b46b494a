"""What a scenario lets the server and other users do: one function for each step `server`. No waiting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec.structs import replace

from protocol.codec import decode_from_server
from protocol.conformance.gateway import Gateways
from protocol.conformance.peer import DoubleConnection
from protocol.conformance.scenario import WrongScenario
from protocol.conformance.talk import Talk
from protocol.conformance.values import Fields, encode_fields
from protocol.frames import Conversation, KeysLow, Lag, ListedDevice, Message, Move, Presence, Push, Typing


class Stage:
    """The double with its gateways, as the steps of a scenario change it."""

    def __init__(self, gateways: Gateways) -> None:
        self.gateways: Final = gateways
        self.double: Final = gateways.double
        self._snapshots: dict[bytes, Conversation] = {}

    def do(self, what: str, fields: Fields) -> None:
        """Do a step `server`.

        :raises WrongScenario: if there is no such step, or its fields are wrong.
        """
        act = _ACTS.get(what)
        if act is None:
            raise WrongScenario(f"no step `server` is called '{what}'")
        try:
            act(self, **fields)
        except (TypeError, KeyError, ValueError) as error:
            raise WrongScenario(f"server {what}: {error}") from error

    @staticmethod
    def acts() -> list[str]:
        """The names of all steps `server`."""
        return sorted(_ACTS)

    @staticmethod
    def about(what: str) -> str:
        """What a step `server` does: the first line of its docstring; empty if its name says all."""
        lines = (getattr(_ACTS.get(what), "__doc__", None) or "").strip().splitlines()
        return lines[0] if lines else ""

    def begin_talks(self, talks: Fields) -> None:
        """Begin conversations, without a push."""
        for name, told in talks.items():
            self.begin(name, pushed=False, **told)

    @property
    def peers(self) -> list[DoubleConnection]:
        """The connections that the server has welcomed."""
        return [peer for peer in self.gateways.peers.values() if peer.is_welcomed]

    def push(self, *frames: Push, pushed: bool = True) -> None:
        told = [_as_pushed(each) for each in frames]
        for peer in self.peers if pushed else ():
            peer.push(told)

    def talk(self, conversation: bytes) -> Talk:
        return self.double.talks[conversation]

    def begin(
        self, name: str, *, kind: str = "direct", others: list[bytes] | None = None, pushed: bool = True, **more: Any
    ) -> None:
        """A conversation begins. `messages` are those of the first of the others, or [sender, content]."""
        talk = Talk(name, kind, others)
        talk.device_set.version = more.pop("devices_version", 0)
        talk.asked_by = more.pop("asked_by", None)
        for each in more.pop("messages", ()):
            sender, content = (talk.others[0], each) if isinstance(each, str) else each
            talk.write(sender, content.encode() if isinstance(content, str) else content)
        if more:
            raise ValueError(f"a conversation has no {', '.join(more)}")
        self.double.talks[talk.id] = talk
        if pushed:
            self.push(talk.tell_anew())

    def write(
        self,
        conversation: bytes,
        *,
        sender: bytes | None = None,
        envelopes: list[tuple[bytes, bytes]] | None = None,
        pushed: bool = True,
        **more: Any,
    ) -> None:
        """A user sends a message: `content`, and `is_quiet`, `device`, `reply_to`, `follows`, `envelopes`
        ([device, bytes] each) where it has them."""
        talk = self.talk(conversation)
        self.push(talk.write(sender or talk.others[0], envelopes=dict(envelopes or ()), **more), pushed=pushed)

    def edit(self, conversation: bytes, seq: int, content: bytes, *, pushed: bool = True) -> None:
        self.push(self.talk(conversation).edit(seq, content), pushed=pushed)

    def delete(self, conversation: bytes, seq: int, *, pushed: bool = True) -> None:
        self.push(self.talk(conversation).delete(seq), pushed=pushed)

    def add_envelope(self, conversation: bytes, seq: int, envelope: bytes, *, pushed: bool = True) -> None:
        """The sender of a message gives this device another envelope for it."""
        self.push(self.talk(conversation).add_envelope(seq, envelope), pushed=pushed)

    def repeat(self, conversation: bytes, seqs: list[int]) -> None:
        """Push the messages with these numbers as they are now, in this order, in one WebSocket message."""
        entries = self.talk(conversation).entries
        self.push(*(entries[seq - 1] for seq in seqs))

    def repeat_revision(self, conversation: bytes, seq: int, revision: int) -> None:
        """Push a message as it was at this revision."""
        self.push(self.talk(conversation).revisions[seq, revision])

    def push_raw(self, frames: list[Fields]) -> None:
        """Push frames that the scenario gives field by field, in one WebSocket message."""
        message = b"".join(map(encode_fields, frames))
        self.double.show(decode_from_server(message))
        for peer in self.peers:
            peer.write(message)

    def snapshot(self, conversation: bytes) -> None:
        """Keep the `conversation` as it is now, for a client that does not know it."""
        self._snapshots[conversation] = self.talk(conversation).tell_anew()

    def tell_snapshot(self, conversation: bytes) -> None:
        """Push it as it was then: the server read it before what has come since."""
        self.push(self._snapshots[conversation])

    def rename(self, conversation: bytes, name: str, *, pushed: bool = True) -> None:
        self.push(self.talk(conversation).rename(name), pushed=pushed)

    def join(self, conversation: bytes, user: bytes, *, pushed: bool = True) -> None:
        """An administrator adds a user to a group."""
        self.push(self.talk(conversation).join(user), pushed=pushed)

    def raise_floor(self, conversation: bytes, first_seq: int, *, pushed: bool = True) -> None:
        self.push(self.talk(conversation).raise_floor(first_seq), pushed=pushed)

    def set_lifetime(self, conversation: bytes, lifetime_s: int | None, *, pushed: bool = True) -> None:
        """Messages disappear after so many seconds from now on. Their end comes by `raise_floor`."""
        self.push(self.talk(conversation).set_lifetime(lifetime_s), pushed=pushed)

    def accept(self, conversation: bytes, *, pushed: bool = True) -> None:
        """The user accepts a request on another device."""
        self.push(self.talk(conversation).accept(), pushed=pushed)

    def type(self, conversation: bytes, user: bytes, is_typing: bool) -> None:
        """Another user types, or stops."""
        self.push(Typing(conversation, user, is_typing))

    def show_presence(self, user: bytes, is_online: bool) -> None:
        """A user comes or goes: connections that watch the user are told."""
        self.double.online[user] = is_online
        for peer in self.peers:
            if user in peer.watched:
                peer.push([Presence(user, is_online)])

    def remove(self, conversation: bytes, *, pushed: bool = True) -> None:
        """An administrator removes the user from a group."""
        self.push(self.talk(conversation).leave(), pushed=pushed)

    def add(self, conversation: bytes, *, pushed: bool = True) -> None:
        """The user comes back to a group."""
        told = self.talk(conversation).come_back()
        self.push(told, pushed=pushed)

    def read_elsewhere(self, conversation: bytes, seq: int) -> None:
        """The user reads on another device."""
        talk = self.talk(conversation)
        talk.read(seq)
        self.push(talk.receipts())

    def change_devices(self, conversation: bytes, users: list[bytes], *, pushed: bool = True) -> None:
        self.push(self.talk(conversation).change_devices(users), pushed=pushed)

    def list_devices(self, devices: list[list[Any]], *, per_page: int | None = None) -> None:
        """From now on these are all devices: [user, device, identity, identity_revision]."""
        self.double.devices.listed = [ListedDevice(*each) for each in devices]
        self.double.devices.per_page = per_page or self.double.devices.per_page

    def claim_keys(self, of_each: int) -> None:
        """Other users claim so many keys of each kind of this device."""
        self.double.keys.claim(of_each)
        if low := self.double.keys.low:
            self.push(KeysLow(low))

    def mix_up_keys(self) -> None:
        """The server holds other keys than the client has uploaded, and has the client look."""
        self.double.keys.mix_up()
        self.push(KeysLow(sorted(self.double.keys.pools)))

    def new_key_history(self) -> None:
        """The server may have forgotten which keys it has handed out, so it hands out none of these."""
        self.double.keys.begin_history()
        self.push(KeysLow(sorted(self.double.keys.pools)))

    def advance(self) -> None:
        """Push the cursor of everything until now."""
        self.push(self.double.advance())

    def lag(self, *, heads: bool = True) -> None:
        """The connections lag: messages are not pushed until the client syncs."""
        told = [(talk.id, talk.last_seq) for talk in self.double.talks.values()] if heads else []
        for peer in self.peers:
            peer.push([Lag(told)])
            peer.is_lagging = True

    def move(self, retry_after_ms: int) -> None:
        self.push(Move(retry_after_ms))

    def drain(self) -> None:
        """Requests from now on are refused: the node is about to close."""
        self.double.is_draining = True

    def recover(self) -> None:
        """The node serves requests again, and reads and writes again."""
        self.double.is_draining = False
        self.gateways.unmute()

    def cut(self) -> None:
        """Cut all connections, without a close frame."""
        for peer in self.gateways.peers.values():
            peer.close(None)

    def close(self, code: int, reason: str = "") -> None:
        for peer in self.gateways.peers.values():
            peer.close(code, reason)

    def refuse(self, status: int, retry_after_s: int | None = None) -> None:
        """Refuse the next opening handshake."""
        self.gateways.refusals.append((status, retry_after_s))

    def slow(self, piece_bytes: int | None = None, fragment_bytes: int | None = None) -> None:
        """Write connections that come from now on in small pieces, and cut their WebSocket messages into fragments."""
        self.gateways.piece_bytes, self.gateways.fragment_bytes = piece_bytes, fragment_bytes

    def mute(self) -> None:
        """Read and write nothing any more: the other end, or the network, has gone without a sign."""
        self.gateways.is_mute = True

    def ping(self, payload: bytes) -> None:
        """Send a WebSocket ping."""
        for peer in self.peers:
            peer.ping(payload)

    def release(self) -> None:
        """Serve the requests that are held."""
        for peer in list(self.gateways.peers.values()):
            peer.release()

    def new_history(self, talks: Fields | None = None) -> None:
        """The database is another one from now on, with these conversations."""
        self.double.cursors.begin_history()
        self.double.forget()
        self.begin_talks(talks or {})

    def expire_cursors(self) -> None:
        self.double.cursors.expire()

    def page(self, conversations: int | None = None, messages: int | None = None) -> None:
        """The sizes of pages of news and of history."""
        self.double.cursors.conversations_per_page = conversations
        self.double.messages_per_page = messages or self.double.messages_per_page

    def welcome(self, **fields: Any) -> None:
        """Fields of each `welcome` from now on."""
        self.double.told = fields


def _as_pushed(frame: Push) -> Push:
    """A pushed `conversation` has no envelope in its last message (SPEC 19.13)."""
    if isinstance(frame, Conversation) and isinstance(frame.last_message, Message):
        return replace(frame, last_message=replace(frame.last_message, envelope=None))
    return frame


_ACTS: Final[dict[str, Callable[..., None]]] = {
    "accept": Stage.accept,
    "add": Stage.add,
    "add_envelope": Stage.add_envelope,
    "advance": Stage.advance,
    "begin": Stage.begin,
    "change_devices": Stage.change_devices,
    "claim_keys": Stage.claim_keys,
    "close": Stage.close,
    "cut": Stage.cut,
    "delete": Stage.delete,
    "drain": Stage.drain,
    "edit": Stage.edit,
    "expire_cursors": Stage.expire_cursors,
    "join": Stage.join,
    "lag": Stage.lag,
    "list_devices": Stage.list_devices,
    "mix_up_keys": Stage.mix_up_keys,
    "move": Stage.move,
    "mute": Stage.mute,
    "new_history": Stage.new_history,
    "new_key_history": Stage.new_key_history,
    "page": Stage.page,
    "ping": Stage.ping,
    "raise_floor": Stage.raise_floor,
    "read_elsewhere": Stage.read_elsewhere,
    "recover": Stage.recover,
    "refuse": Stage.refuse,
    "release": Stage.release,
    "remove": Stage.remove,
    "rename": Stage.rename,
    "repeat": Stage.repeat,
    "repeat_revision": Stage.repeat_revision,
    "set_lifetime": Stage.set_lifetime,
    "show_presence": Stage.show_presence,
    "slow": Stage.slow,
    "snapshot": Stage.snapshot,
    "tell_snapshot": Stage.tell_snapshot,
    "type": Stage.type,
    "welcome": Stage.welcome,
    "write": Stage.write,
    "push": Stage.push_raw,
}
"""Name of a step `server` -> what it does."""
