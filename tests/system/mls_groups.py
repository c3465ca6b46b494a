"""Groups of MLS on the chain of control messages: each leaf follows the chain, and makes commits of its own."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

import trio

from client.errors import OutcomeUnknown, RequestRefused, Unreachable
from client.session import Session
from protocol.frames import Message
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from tests.system.mls_leaves import InvalidCommit, Leaf, MlsRsLeaf, NewCommit


class Change(IntEnum):
    """The first byte of a control message: what its commit says it does with the guest."""

    NOTHING = 0
    ADD = 1
    REMOVE = 2


@dataclass
class ChainedDevice:
    """A leaf with its session, in all groups.

    :ivar chains: of each group: the control message that follows one.
    :ivar grown: unparked whenever a chain has grown.
    """

    name: str
    leaf: Leaf
    session: Session
    chains: defaultdict[bytes, dict[int, Message]] = field(default_factory=lambda: defaultdict(dict))
    grown: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)

    async def read(self) -> None:
        """Sort the control messages that the session gets into their chains. A message may come twice, as by a push and
        by `sync`."""
        async for entry in self.session.messages:
            if isinstance(entry, Message) and entry.follows is not None:
                chain = self.chains[entry.conversation]
                assert chain.setdefault(entry.follows, entry).seq == entry.seq, "the chain has a fork"
                chain[entry.follows] = entry
                self.grown.unpark_all()


@dataclass
class Tally:
    """What happened in all groups.

    :ivar secrets: of each epoch by group and the seq of its control message: who exports it.
    :ivar lost: the Welcomes of refused commits.
    :ivar won: those of accepted ones, by group and seq.
    :ivar invalid: control messages that a leaf has found invalid.
    """

    secrets: defaultdict[tuple[bytes, int], defaultdict[bytes, set[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(set))
    )
    lost: list[bytes] = field(default_factory=list)
    won: dict[tuple[bytes, int], bytes] = field(default_factory=dict)
    accepted: int = 0
    conflicts: int = 0
    unknown: int = 0
    invalid: int = 0


class GroupLeaf:
    """A device in one group, at one place of the chain.

    :ivar seq: the last control message that it has seen.
    :ivar has_guest: whether the guest is in the group.
    """

    def __init__(self, device: ChainedDevice, group: bytes, guest: Guest, tally: Tally) -> None:
        self.device = device
        self.group = group
        self.seq = 0
        self.has_guest = False
        self._guest = guest
        self._tally = tally
        self._own: tuple[bytes, bytes] | None = None

    @property
    def leaf(self) -> Leaf:
        return self.device.leaf

    async def begin(self, others: Sequence[GroupLeaf]) -> None:
        """Make the group, and add the others: the first control message."""
        await self.leaf.create(self.group)
        made = await self.leaf.commit(self.group, [await each.leaf.key_package() for each in others])
        assert made.welcome is not None
        to = [(each.device.session.device, made.welcome) for each in others]
        await self._send(bytes([Change.NOTHING]), made, to)

    async def commit(self) -> None:
        """Have one commit of this leaf accepted, on top of whatever comes meanwhile: it adds or removes the guest, or
        only renews keys."""
        while True:
            await self.catch_up()
            change = random.choice([Change.NOTHING, Change.REMOVE if self.has_guest else Change.ADD])
            add = [await self._guest.leaf.key_package()] if change is Change.ADD else []
            made = await self.leaf.commit(self.group, add, self._guest.leaf if change is Change.REMOVE else None)
            to = [(self._guest.session.device, made.welcome)] if made.welcome is not None else []
            if await self._send(bytes([change]), made, to):
                return

    async def send_invalid(self, content: bytes) -> None:
        """Have a control message accepted whose content is no commit of this epoch."""
        while not await self._send(content, None, []):
            await self.catch_up()

    async def catch_up(self, until: int = 0) -> None:
        """Process the control messages that have come, in the order of the chain.

        :param until: wait for those up to this seq.
        """
        chain = self.device.chains[self.group]
        while True:
            while (message := chain.get(self.seq)) is not None:
                await self._process(message)
            if self.seq >= until:
                return
            await self.device.grown.park()

    async def _send(self, begin: bytes, made: NewCommit | None, to: list[tuple[bytes, bytes]]) -> bool:
        """Whether it was accepted."""
        session, content = self.device.session, begin + (made.commit if made else b"")
        temp_id = session.new_temp_id()
        self._own = (temp_id, made.commit) if made else None
        while True:
            try:
                sent = await session.send(
                    self.group, content, follows=self.seq, temp_id=temp_id, is_quiet=True, envelopes=to or None
                )
            except RequestRefused as refused:
                if refused.code != "control_conflict":
                    raise
                break
            except (OutcomeUnknown, Unreachable):
                self._tally.unknown += 1
                continue
            self._tally.accepted += 1
            if to:
                self._tally.won[self.group, sent.seq] = to[0][1]
            await self.catch_up(sent.seq)
            return True
        self._tally.conflicts += 1
        self._tally.lost += [welcome for _, welcome in to]
        self._own = None
        if made:
            await self.leaf.discard(self.group)
        # The winner is there, or on its way.
        await self.catch_up(self.seq + 1)
        return False

    async def _process(self, message: Message) -> None:
        assert message.follows == self.seq
        change, commit = message.content[0] if message.content else 0, message.content[1:]
        is_own = self._own is not None and message.temp_id == self._own[0]
        try:
            if self._own is not None and is_own:
                await self.leaf.accept(self.group, self._own[1])
            elif message.envelope is not None:
                await self.leaf.join(self.group, message.envelope)
            else:
                await self.leaf.process(self.group, commit)
        except InvalidCommit:
            # The chain goes on from it; the epoch stays.
            self._tally.invalid += 1
        else:
            self.has_guest = {Change.ADD: True, Change.REMOVE: False}.get(Change(change), self.has_guest)
        self.seq = message.seq
        secret = await self.leaf.secret(self.group)
        self._tally.secrets[self.group, self.seq][secret].add(self.device.name)


@dataclass
class Guest:
    """A device that commits add and remove, and that joins by each Welcome that it is shown."""

    leaf: MlsRsLeaf
    session: Session
    tally: Tally
    shown: dict[tuple[bytes, int], bytes] = field(default_factory=dict)

    async def read(self) -> None:
        async for entry in self.session.messages:
            if isinstance(entry, Message) and entry.envelope is not None:
                place = (entry.conversation, entry.seq)
                if place not in self.shown:
                    self.shown[place] = entry.envelope
                    await self.leaf.join(entry.conversation, entry.envelope)
                    secret = await self.leaf.secret(entry.conversation)
                    self.tally.secrets[place][secret].add("the guest")


async def findings(pool: Pool, tally: Tally, guest: Guest, groups: Sequence[Sequence[GroupLeaf]]) -> list[str]:
    """What is wrong after a run; the leaves have caught up."""
    found: list[str] = []
    for leaves in groups:
        group = leaves[0].group
        rows = await pool.fetch(
            "select follows, seq from messages where conversation_id = %s and follows is not null order by seq",
            (uuid(group),),
        )
        if [follows for follows, _ in rows] != [0, *[seq for _, seq in rows][:-1]]:
            found.append(f"the chain is not linear: {rows}")
        for _, seq in rows:
            by_secret = tally.secrets[group, seq]
            who = set().union(*by_secret.values())
            # A leaf that joins by the first control message has no secret before it.
            if len(by_secret) != 1 or not who >= {each.device.name for each in leaves}:
                found.append(f"after {seq} leaves export {len(by_secret)} secrets: {list(by_secret.values())}")
    [(stored,)] = await pool.fetch("select count(*) from messages where follows is not null")
    if stored != tally.accepted:
        found.append(f"{stored} control messages are stored, and {tally.accepted} were acknowledged")
    bodies = [body for (body,) in await pool.fetch("select body from envelopes")]
    seen = {*guest.shown.values(), *bodies}
    found += ["a lost Welcome was stored or shown" for lost in tally.lost if any(lost in each for each in seen)]
    to_guest = {place: welcome for place, welcome in tally.won.items() if place[1] > 1}
    if guest.shown != to_guest:
        found.append(f"the guest was shown {len(guest.shown)} Welcomes, and {len(to_guest)} were accepted")
    return found


GARBAGE: Final[dict[str, Callable[[bytes], bytes]]] = {
    "no bytes of MLS": lambda commit: b"\xff" * 40,
    "a commit that was changed": lambda commit: commit[:-9] + bytes([commit[-9] ^ 1]) + commit[-8:],
    "the commit of an earlier epoch": lambda commit: commit,
    "half a commit": lambda commit: commit[: len(commit) // 2],
}
"""Contents that are no commit of the present epoch -> from a commit of an earlier one."""
