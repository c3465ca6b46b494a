"""Gateways, users and their devices, and the action of each step of a plan."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final
from uuid import UUID

import httpx
import trio

from client.http import Credentials
from jobs.tasks.retention import announce_floors
from store import accounts, conversations, devices, keys
from store.avatars import NO_AVATAR
from store.errors import Unavailable
from store.postgres.pool import Pool
from store.redis.client import Redis
from store.retention import move_floors, unannounced
from tests.checker.devices import CheckedDevice, EventRecorder, listen, picked
from tests.checker.encrypting import ComingDevices, EncryptingDevice, begin_to_note_sets, read_answer
from tests.checker.faulty_nodes import FAULTS, FaultyNodes
from tests.checker.history import Blocked, Fault, Opened, ParticipantChange, Shown
from tests.checker.plan import DEVICES, NODES, USERS, Kind, Step
from tests.people import make_contacts, new_device, new_user
from tests.processes import Cluster
from tests.store.attachment_world import new_attachment
from tests.uploads import new_uploads
from tests.waiting import let_pass

HTTP_TIMEOUT_S: Final = 20.0
MANY: Final = 36
"""Participants of the large group without devices: above the size up to which a node pushes marks to all."""

STOCK: Final = 20
"""Uploads of a user that are stored at a time: with the avatars far below the quota of open ones."""

GROUPS: Final = ((0, 1, 2), (0, 1, 2, 3), (0, 1, 2, 3, 4), (1, 3, 4))
DIRECT: Final = ((0, 1), (1, 2), (3, 4))


@dataclass
class Place:
    """A conversation with its participants and administrators, as of the server's last answer."""

    id: bytes
    name: str
    participants: set[int]
    admins: set[int]
    pair: tuple[int, int] | None = None
    lock: trio.Lock = field(default_factory=trio.Lock)


class CheckerWorld:
    """The nodes, users, devices and conversations that steps act on.

    :ivar counts: steps by kind, and their outcomes.
    :ivar places: all conversations.
    """

    def __init__(self, pool: Pool, cluster: Cluster, redis_url: str, nursery: trio.Nursery) -> None:
        self.recorder = EventRecorder()
        self.counts: Counter[str] = Counter()
        self.places: list[Place] = []
        self.devices: list[list[CheckedDevice]] = []
        self._pool = pool
        self._cluster = cluster
        self._redis_url = redis_url
        self._nursery = nursery
        self.nodes = FaultyNodes(pool, cluster, redis_url, nursery, self._note)
        self._people: list[Credentials] = []
        self.encrypting: list[EncryptingDevice] = []
        """One of each user; `coming` are its devices that come and go."""
        self._coming: list[ComingDevices] = []
        self._contents = count(1)
        self._stock: dict[int, list[bytes]] = {}
        self._stock_lock = trio.Lock()
        self._fresh = count(1)
        self._moving: set[tuple[int, int]] = set()
        self._http = httpx.AsyncClient(timeout=HTTP_TIMEOUT_S, trust_env=False)

    @property
    def urls(self) -> list[str]:
        return self.nodes.urls

    def node_at(self, url: str) -> str:
        """The name of a node in the history; empty for an unknown URL."""
        return f"node{self.urls.index(url)}" if url in self.urls else ""

    @property
    def people(self) -> list[Credentials]:
        """The credentials of one device of each user; it is never connected."""
        return self._people

    async def begin(self) -> None:
        """Start the nodes, make users, conversations and devices, and connect all devices."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.nodes.begin)
            nursery.start_soon(self._make_people)
        await begin_to_note_sets(self._pool)
        for number, participants in enumerate(GROUPS):
            await self._open_group(f"group{number}", participants)
        others = [await accounts.add_user(self._pool, f"other{number}", "-") for number in range(MANY)]
        for number, other in enumerate(others):
            self.recorder.name(other, f"other{number}")
        await self._open_group("many", (0, 1, 2), others)
        for pair in DIRECT:
            await self._open_direct(pair)
        async with trio.open_nursery() as nursery:
            for user, person in enumerate(self._people):
                self.devices.append([])
                for number in range(DEVICES):
                    device = await self._device(user, f"user{user}.{number}")
                    self.devices[user].append(device)
                    nursery.start_soon(device.come, self._order(user + number))
                if user < NODES:
                    listener = await new_device(self._pool, person.user)
                    name = f"user{user} at node{user}"
                    self._nursery.start_soon(listen, name, self.urls[user], listener, self.recorder)

    async def say_last_words(self) -> None:
        """In each conversation one participant sends a message, and the others read all their messages."""
        for place in self.places:
            user = min(place.participants, default=None)
            if user is not None:
                await self._say(place, user, 0)
                for other in place.participants - {user}:
                    self.devices[other][1].read(place.id, 0.99)

    async def close(self) -> None:
        await self._http.aclose()

    async def act(self, plan: Sequence[Step]) -> None:
        """Begin each step at its time, even if earlier steps still run; returns when all are over."""
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for step in plan:
                await trio.sleep_until(began + step.at_s)
                nursery.start_soon(self.take, step)

    async def take(self, step: Step) -> None:
        """Take one step; a step that is impossible now (the node is down already) does nothing."""
        self.counts[step.kind.value] += 1
        steps: dict[Kind, Callable[[Step], Awaitable[None]]] = {
            Kind.SEND: self._send,
            Kind.BURST: self._burst,
            Kind.AGAIN: self._again,
            Kind.EDIT: self._edit,
            Kind.DELETE: self._delete,
            Kind.READ: self._read,
            Kind.TYPING: self._type,
            Kind.ADD: self._add,
            Kind.REMOVE: self._remove,
            Kind.LEAVE: self._leave,
            Kind.ROLE: self._set_role,
            Kind.RENAME: self._rename,
            Kind.SHOW_ALL: self._show_all,
            Kind.PROFILE: self._set_profile,
            Kind.RECEIPTS: self._give_receipts,
            Kind.BLOCK: self._block,
            Kind.EXPIRE: self._expire,
            Kind.OPEN: self._open,
            Kind.AWAY: self._away,
            Kind.FRESH: self._replace,
            Kind.LIFETIME: self._set_lifetime,
            Kind.ENCRYPT: self._encrypt,
            Kind.PUBLISH: self._publish,
            Kind.REVOKE: self._revoke,
            **dict.fromkeys(FAULTS, self.nodes.take),
        }
        await steps[step.kind](step)

    # Messages.

    async def _send(self, step: Step) -> None:
        await self._say(self._place(step), step.user, step.device)

    async def _burst(self, step: Step) -> None:
        place = self._place(step)
        async with trio.open_nursery() as nursery:
            for _ in range(3 + step.other * 3):
                nursery.start_soon(self._say, place, step.user, step.device)

    async def _again(self, step: Step) -> None:
        await self._device_of(step).again(self.urls[step.place % NODES], step.pick)

    async def _edit(self, step: Step) -> None:
        place, content = self._place(step), self._content()
        files = await self._files(step.user, [0, 0, 1], content)
        await self._device_of(step).edit(place.id, content, step.pick, files)

    async def _delete(self, step: Step) -> None:
        await self._device_of(step).delete(self._place(step).id, step.pick, for_everyone=step.flag)

    async def _read(self, step: Step) -> None:
        self._device_of(step).read(self._place(step).id, step.pick)

    async def _type(self, step: Step) -> None:
        await self._device_of(step).type(self._place(step).id, is_typing=step.flag)

    # People.

    async def _add(self, step: Step) -> None:
        place = self._group(step)
        async with place.lock:
            candidates = [user for user in range(USERS) if user not in place.participants] or [step.other]
            await self._change(place, picked(candidates, step.pick), is_added=True, step=step)

    async def _remove(self, step: Step) -> None:
        place = self._group(step)
        async with place.lock:
            if len(place.participants) > 2:
                await self._change(place, picked(sorted(place.participants), step.pick), is_added=False, step=step)

    async def _leave(self, step: Step) -> None:
        place = self._group(step)
        async with place.lock:
            if step.user in place.participants and len(place.participants) > 2:
                await self._change(place, step.user, is_added=False, step=step, by=step.user)

    async def _change(self, place: Place, other: int, *, is_added: bool, step: Step, by: int | None = None) -> None:
        recorder, began = self.recorder, self.recorder.now()
        actor = by if by is not None else self._actor(place, step)
        path = f"/v1/conversations/{UUID(bytes=place.id)}/participants"
        if is_added:
            status = await self._ask(actor, "POST", path, user=self._text(other))
        else:
            status = await self._ask(actor, "DELETE", f"{path}/{self._text(other)}")
        if status == 204 or status >= 500:
            is_known = status == 204
            name = f"user{other}"
            recorder.add(ParticipantChange(recorder.now(), began, place.name, name, is_added, is_known))
            (place.participants.add if is_added else place.participants.discard)(other)
            if not is_added:
                place.admins.discard(other)

    async def _set_role(self, step: Step) -> None:
        place = self._group(step)
        async with place.lock:
            other = picked(sorted(place.participants), step.pick)
            path = f"/v1/conversations/{UUID(bytes=place.id)}/participants/{self._text(other)}"
            role = "admin" if step.flag else "member"
            if await self._ask(self._actor(place, step), "PATCH", path, role=role) == 204:
                (place.admins.add if step.flag else place.admins.discard)(other)

    async def _rename(self, step: Step) -> None:
        place = self._group(step)
        path = f"/v1/conversations/{UUID(bytes=place.id)}"
        actor = self._actor(place, step)
        picture = await self._picture(actor, step)
        await self._ask(actor, "PATCH", path, name=f"name {next(self._contents)}", **picture)

    async def _show_all(self, step: Step) -> None:
        place, recorder = self._group(step), self.recorder
        async with place.lock:
            began, path = recorder.now(), f"/v1/conversations/{UUID(bytes=place.id)}"
            status = await self._ask(self._actor(place, step), "PATCH", path, joiners_see_all=step.flag)
            if status == 204 or status >= 500:
                recorder.add(Shown(recorder.now(), began, place.name, step.flag, status == 204))

    async def _set_lifetime(self, step: Step) -> None:
        """Set a lifetime longer than any run: the test is of its pushes, not of the expiry."""
        place = self._place(step)
        path = f"/v1/conversations/{UUID(bytes=place.id)}"
        actor = step.user if place.pair else self._actor(place, step)
        await self._ask(actor, "PATCH", path, lifetime_s=86_400 * (1 + step.other) if step.flag else 0)

    async def _set_profile(self, step: Step) -> None:
        name = f"User {next(self._contents)}" if step.pick < 0.8 else ""
        picture = await self._picture(step.user, step)
        await self._ask(step.user, "PATCH", "/v1/profile", display_name=name, **picture)

    async def _picture(self, user: int, step: Step) -> dict[str, str]:
        """The avatar of a change: a new one, the present one (empty), or none any longer."""
        if not step.flag:
            return {} if step.pick < 0.7 else {"avatar": str(UUID(bytes=NO_AVATAR))}
        upload = await new_attachment(self._pool, self._people[user].user, avatars="encrypted")
        return {"avatar": str(UUID(bytes=upload))}

    async def _give_receipts(self, step: Step) -> None:
        await self._ask(step.user, "PATCH", "/v1/profile", gives_receipts=step.flag)

    async def _block(self, step: Step) -> None:
        directs = [place for place in self.places if place.pair]
        place = directs[step.place % len(directs)]
        assert place.pair is not None
        user, other = place.pair if step.pick < 0.5 else place.pair[::-1]
        async with place.lock:
            began = self.recorder.now()
            status = await self._ask(user, "PUT", f"/v1/contacts/{self._text(other)}", is_blocked=step.flag)
            if status == 204 or status >= 500:
                now, is_known = self.recorder.now(), status == 204
                self.recorder.add(Blocked(now, began, f"user{user}", f"user{other}", step.flag, is_known))

    async def _expire(self, step: Step) -> None:
        """Expire the messages of one conversation that are older than some seconds; Postgres keeps them, for the
        checks."""
        await move_floors(self._pool, days=(1 + 4 * step.pick) / 86_400, archives=False, limit=1)
        redis = Redis(self._redis_url)
        async with trio.open_nursery() as nursery:
            await nursery.start(redis.run)
            await redis.wait_connected()
            with suppress(Unavailable):  # another step flushes Redis at this moment: the next EXPIRE announces it
                await announce_floors(self._pool, redis, await unannounced(self._pool, limit=100))
            nursery.cancel_scope.cancel()
        await self._pool.fetch("update expiries set is_cleared = true where is_announced and not is_cleared")

    async def _open(self, step: Step) -> None:
        others = {(step.user + 1 + number) % USERS for number in range(1 + step.place % 3)}
        participants = (step.user, *sorted(others - {step.user}))
        await self._open_group(f"group{next(self._contents)}", participants)

    # Messages for a set of devices, and the devices that come and go meanwhile.

    async def _encrypt(self, step: Step) -> None:
        place, device, urls = self._place(step), self.encrypting[step.user], self._order(step.place)
        sent = await device.send(urls, place.id, self._content())
        if sent is not None and step.flag:
            await device.edit(urls, place.id, sent.seq, self._content())

    async def _publish(self, step: Step) -> None:
        coming, url = self._coming[step.user], self.urls[step.place % NODES]
        await (coming.come(url) if step.flag else coming.change(url, step.pick))

    async def _revoke(self, step: Step) -> None:
        device = self._coming[step.user].go(step.pick)
        if device is not None:
            await devices.revoke_device(self._pool, self._people[step.user].user, device)

    async def _read_set(self, user: int, conversation: bytes) -> tuple[int, list[bytes]] | None:
        url = f"{self._cluster.http_url}/v1/conversations/{UUID(bytes=conversation)}"
        with suppress(httpx.HTTPError):
            answer = await self._http.get(url, headers={"Authorization": f"Bearer {self._people[user].token}"})
            if answer.status_code == 200:
                return read_answer(answer.json())
        return None

    # Devices and processes.

    async def _away(self, step: Step) -> None:
        key = (step.user, step.device)
        device = self._device_of(step)
        if key in self._moving or device.session is None:
            return
        self._moving.add(key)
        await device.go(says_bye=step.flag)
        await let_pass(0.05 + step.pick * 2, why="the device is away")
        await device.come(self._order(step.place))
        self._moving.discard(key)

    async def _replace(self, step: Step) -> None:
        key = (step.user, step.device)
        if key in self._moving:
            return
        self._moving.add(key)
        old = self._device_of(step)
        await old.go(says_bye=step.flag)
        new = await self._device(step.user, f"{old.name}+{next(self._fresh)}")
        # The new device goes on with the old one's unacknowledged messages, as from a backup.
        new.drafts, new.acked, new.refused, new.resumed = old.drafts, old.acked, old.refused, old.resumed
        self.devices[step.user][step.device] = new
        await new.come(self._order(step.place))
        self._moving.discard(key)

    # The users, devices and conversations of a step.

    def _note(self, what: str) -> None:
        self.recorder.add(Fault(self.recorder.now(), what))

    def _device_of(self, step: Step) -> CheckedDevice:
        return self.devices[step.user][step.device]

    def _place(self, step: Step) -> Place:
        """A conversation of the step; most of the time the user is a participant."""
        own = [place for place in self.places if step.user in place.participants]
        some = own if own and step.place % 20 else self.places
        return some[step.place % len(some)]

    def _group(self, step: Step) -> Place:
        groups = [place for place in self.places if place.pair is None]
        return groups[step.place % len(groups)]

    def _actor(self, place: Place, step: Step) -> int:
        """The acting user; most of the time an administrator, or a participant of a group without one."""
        able = sorted(place.admins or place.participants)
        return step.user if step.other == 0 or not able else picked(able, step.pick)

    def _order(self, first: int) -> list[str]:
        urls = self.urls
        return [urls[(first + number) % NODES] for number in range(NODES)]

    def order(self, first: int) -> list[str]:
        """The nodes, beginning with this one."""
        return self._order(first)

    def _content(self) -> bytes:
        return b"content %d" % next(self._contents)

    def _text(self, user: int) -> str:
        return str(UUID(bytes=self._people[user].user))

    async def _ask(self, actor: int, method: str, path: str, **body: Any) -> int:
        """The status; 599 without an answer: then the outcome is unknown."""

        headers = {"Authorization": f"Bearer {self._people[actor].token}"}
        try:
            answer = await self._http.request(method, self._cluster.http_url + path, json=body or None, headers=headers)
        except httpx.HTTPError:
            return 599
        return answer.status_code

    # The beginning.

    async def _make_people(self) -> None:
        for number in range(USERS):
            person = await new_user(self._pool, f"user{number}")
            self._people.append(person)
            self.recorder.name(person.user, f"user{number}")
            device = await new_device(self._pool, person.user)
            await keys.put(self._pool, device.device, b"identity")
            self.encrypting.append(EncryptingDevice(number, device, self.recorder, self._read_set))
            self._coming.append(ComingDevices(person.user, self._pool))
        for n, person in enumerate(self._people):
            await make_contacts(self._pool, person, *self._people[n + 1 :])

    async def _device(self, user: int, name: str) -> CheckedDevice:
        credentials = await new_device(self._pool, self._people[user].user)
        if name.startswith(f"user{user}.0"):
            # Others encrypt for it; not for the user's other device.
            await keys.put(self._pool, credentials.device, b"identity")
        return CheckedDevice(name, credentials, self.recorder, self._nursery)

    async def _files(self, user: int, counts: Sequence[int], content: bytes) -> list[bytes]:
        """Complete uploads for a message: one of these counts, by its content.

        They come from a stock: all uploads lock one row, so each insert waits for the commits of all others.
        """
        count = random.Random(content).choice(counts)
        async with self._stock_lock:
            stock = self._stock.setdefault(user, [])
            if len(stock) < count:
                stock += await new_uploads(self._pool, self._people[user].user, STOCK)
            return [stock.pop() for _ in range(count)]

    async def _say(self, place: Place, user: int, device: int) -> None:
        """Send a message. Another device may have taken the place of this one while the files were stored."""
        content = self._content()
        files = await self._files(user, [0, 0, 1, 2], content)
        await self.devices[user][device].send(place.id, content, files)

    async def _open_group(self, name: str, participants: Sequence[int], others: Sequence[bytes] = ()) -> None:
        users = [UUID(bytes=self._people[each].user) for each in participants[1:]]
        everyone = [str(each) for each in (*users, *(UUID(bytes=other) for other in others))]
        headers = {"Authorization": f"Bearer {self._people[participants[0]].token}"}
        body = {"kind": "group", "name": name, "participants": everyone}
        url = f"{self._cluster.http_url}/v1/conversations"
        with suppress(httpx.HTTPError):
            answer = await self._http.post(url, json=body, headers=headers)
            if answer.status_code == 201:
                id_ = UUID(answer.json()["conversation"]).bytes
                self._opened(Place(id_, name, set(participants), {participants[0]}))

    async def _open_direct(self, pair: tuple[int, int]) -> None:
        one, other = (self._people[user].user for user in pair)
        id_, _ = await conversations.add_direct(self._pool, one, other)
        self._opened(Place(id_, f"direct{pair[0]}{pair[1]}", set(pair), set(), pair))

    def _opened(self, place: Place) -> None:
        self.recorder.name(place.id, place.name)
        kind = "direct" if place.pair else "group"
        participants = tuple(f"user{each}" for each in sorted(place.participants))
        self.recorder.add(Opened(self.recorder.now(), place.name, kind, participants))
        self.places.append(place)
