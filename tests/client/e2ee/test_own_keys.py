"""The uploads of a device's own keys, against a server that keeps pools as the real one does."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from msgspec.structs import replace

from client.e2ee.known import checked_identity
from client.e2ee.own_keys import LAST_RESORT_S, POOL, KeyUpload
from client.e2ee.vodozemac_ratchets import VodozemacRatchets
from client.e2ee.wire import KEY_BYTES, KIND, signed_key
from protocol.frames import HeldKeys, OneTimeKey
from protocol.limits import FEW_KEYS
from tests.client.e2ee.keyring_world import Device, KeyringWorld
from tests.memory import in_memory


class Pool:
    """The pool of one device at the server (`protocol/SPEC.md`, 19.5 to 19.8)."""

    def __init__(self) -> None:
        self.identity: bytes | None = None
        self.keys: list[OneTimeKey] = []
        self.highest = 0
        self.last: OneTimeKey | None = None
        self.is_given = False
        self.history = b"h1"
        self.of = b"h1"

    def put(self, upload: KeyUpload) -> None:
        assert upload.key_history == self.history
        self.identity = upload.identity
        numbers = [number for _, number, _ in upload.one_time_keys]
        assert numbers == sorted(numbers)
        if self.of != self.history or (upload.is_anew and numbers):
            self.keys = [each for each in self.keys if each[1] >= numbers[0]] if self.of == self.history else []
        self.of = self.history
        self.keys += [each for each in upload.one_time_keys if each[1] > self.highest]
        self.highest = max([self.highest, *numbers])
        for each in upload.last_resort_keys:
            if self.last is None or each[1] > self.last[1]:
                self.last, self.is_given = each, False

    @property
    def held(self) -> HeldKeys:
        if self.identity is None:
            return HeldKeys(0, None, 0, self.history, [])
        keys = self.keys if self.of == self.history else []
        all_ = [*keys, self.last] if self.last else keys
        joined = b"".join(number.to_bytes(8, "big") + sha256(key).digest() for _, number, key in all_)
        last = self.last[1] if self.last else 0
        first = keys[0][1] if keys else 0
        pool = (KIND, len(keys), first, self.highest, sha256(joined).digest(), last, self.is_given)
        return HeldKeys(0, self.identity, 1, self.history, [pool])


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with in_memory(tmp_path) as folder:
        device = Device(KeyringWorld(folder), b"u" * 16, b"d" * 16, folder / "own.keys")
        yield device
        device.vault.close()


def bring_up_to_date(device: Device, pool: Pool) -> int:
    """KeyUpload until the device says that it is enough; returns the number of uploads."""
    for done in range(5):
        upload = device.keyring.next_upload(pool.held)
        if upload is None:
            return done
        pool.put(upload)
    raise AssertionError("the device uploads without end")


def test_a_new_device_publishes_a_signed_identity_a_full_pool_and_a_last_resort_key(device: Device) -> None:
    pool = Pool()
    assert bring_up_to_date(device, pool) == 1
    ratchets = VodozemacRatchets(bytes(32))
    assert pool.identity is not None
    assert pool.last is not None
    identity = checked_identity(ratchets, device.user, device.id, pool.identity)
    assert [number for _, number, _ in pool.keys] == list(range(1, POOL + 1))
    for is_last, keys in ((False, pool.keys), (True, [pool.last])):
        for _, number, data in keys:
            signed = signed_key(device.user, device.id, number, data[:KEY_BYTES], is_last_resort=is_last)
            assert ratchets.is_signed(identity.signing_key, signed, data[KEY_BYTES:])
    assert len({data for _, _, data in pool.keys}) == POOL


def test_an_upload_whose_answer_was_lost_comes_again_as_it_was(device: Device) -> None:
    pool = Pool()
    first = device.keyring.next_upload(pool.held)
    device.restart()
    assert device.keyring.next_upload(pool.held) == first
    assert first is not None
    pool.put(first)
    device.restart()
    assert device.keyring.next_upload(pool.held) is None


def test_few_keys_are_filled_up_with_greater_numbers(device: Device) -> None:
    pool = Pool()
    bring_up_to_date(device, pool)
    del pool.keys[: POOL - FEW_KEYS]
    assert bring_up_to_date(device, pool) == 0
    del pool.keys[0]
    assert bring_up_to_date(device, pool) == 1
    assert len(pool.keys) == POOL
    assert pool.highest == 2 * POOL - FEW_KEYS + 1


def test_keys_that_the_server_has_swapped_are_replaced(device: Device) -> None:
    pool = Pool()
    bring_up_to_date(device, pool)
    pool.keys[3] = (*pool.keys[3][:2], b"a key of another")
    assert bring_up_to_date(device, pool) == 1
    assert min(number for _, number, _ in pool.keys) == POOL + 1
    assert len(pool.keys) == POOL


def test_after_a_fail_over_no_key_from_before_comes_back(device: Device) -> None:
    pool = Pool()
    lost = device.keyring.next_upload(pool.held)
    assert lost is not None
    pool.history = b"h2"
    assert bring_up_to_date(device, pool) == 1
    assert not {data for _, _, data in pool.keys} & {data for _, _, data in lost.one_time_keys}
    pool.history = b"h3"
    assert bring_up_to_date(device, pool) == 1
    assert min(number for _, number, _ in pool.keys) > POOL


def test_a_last_resort_key_that_was_handed_out_is_replaced_once_an_hour(device: Device) -> None:
    pool = Pool()
    bring_up_to_date(device, pool)
    first = pool.last
    pool.is_given = True
    assert bring_up_to_date(device, pool) == 0
    device.world.clock.now_s += LAST_RESORT_S
    assert bring_up_to_date(device, pool) == 1
    assert first is not None
    assert pool.last is not None
    assert pool.last[1] == first[1] + 1


def test_a_lost_identity_is_published_again_as_it_was(device: Device) -> None:
    pool = Pool()
    bring_up_to_date(device, pool)
    published = pool.identity
    upload = device.keyring.next_upload(replace(pool.held, identity=None))
    assert upload is not None
    assert upload.identity == published
