"""The keys of a device at the server double, and the device sets of its conversations."""

from __future__ import annotations

from msgspec.structs import replace

from protocol.codes import ErrorCode
from protocol.conformance.devices import DoubleDevices, DoubleDeviceSet
from protocol.conformance.keys import DoubleKeys
from protocol.conformance.own_writes import OwnWrites
from protocol.conformance.talk import ME, Talk
from protocol.conformance.values import id_of
from protocol.frames import Error, HeldKeys, KeyStatus, ListedDevice, PutKeys, Send, Sent

BOB, CAROL = id_of("bob"), id_of("carol")
UPLOAD = PutKeys(1, b"identity", [("k", number, b"key %d" % number) for number in range(1, 26)], [("k", 1, b"last")])


def pool_of(keys: DoubleKeys) -> tuple[str, int, int, int, bytes, int, bool]:
    held = keys.status(KeyStatus(1))
    assert isinstance(held, HeldKeys)
    [pool] = held.pools
    return pool


def uploaded() -> DoubleKeys:
    keys = DoubleKeys()
    keys.put(replace(UPLOAD, key_history=keys.history))
    return keys


def test_keys_are_claimed_in_order_and_the_last_resort_key_when_none_is_left() -> None:
    keys = uploaded()
    assert pool_of(keys)[:4] == ("k", 25, 1, 25)
    assert keys.low == []
    keys.claim(6)
    assert (pool_of(keys)[1:4], keys.low) == ((19, 7, 25), ["k"])
    keys.claim(20)
    assert pool_of(keys)[1:4] == (0, 0, 25)
    assert pool_of(keys)[5:] == (1, True)


def test_an_upload_that_is_repeated_changes_nothing_and_one_anew_replaces_the_keys() -> None:
    keys = uploaded()
    before = pool_of(keys)
    keys.put(replace(UPLOAD, key_history=keys.history, is_anew=True))
    assert pool_of(keys) == before
    keys.put(PutKeys(1, None, [("k", 26, b"new")], None, True, keys.history))
    assert pool_of(keys)[1:4] == (1, 26, 26)


def test_the_digest_tells_other_keys() -> None:
    keys = uploaded()
    before = pool_of(keys)
    keys.mix_up()
    assert (pool_of(keys)[:4], pool_of(keys)[4] == before[4]) == (before[:4], False)


def test_an_upload_for_another_key_history_is_refused() -> None:
    keys = uploaded()
    before = keys.history
    keys.begin_history()
    assert pool_of(keys)[1] == 0
    refused = keys.put(replace(UPLOAD, key_history=before))
    assert isinstance(refused, Error)
    assert refused.code == ErrorCode.KEY_HISTORY_FOREIGN.value


def test_a_device_set_names_the_users_whose_devices_have_changed() -> None:
    devices = DoubleDeviceSet()
    assert devices.untold([BOB, CAROL]) == [BOB, CAROL]
    devices.tell([BOB, CAROL])
    assert [devices.change([BOB]), devices.change([CAROL])] == [0, 1]
    assert devices.changed_since(1, [BOB, CAROL]) == [CAROL]
    assert devices.changed_since(9, [BOB, CAROL]) == [BOB, CAROL]
    devices.tell([CAROL])
    assert devices.untold([BOB, CAROL]) == [BOB]


def send(**more: object) -> Send:
    return replace(Send(1, id_of("talk"), "text/plain", b"two", None, None, b"t" * 16), **more)  # type: ignore[arg-type]


def test_a_refusal_for_changed_devices_has_the_devices_and_their_keys() -> None:
    talk, devices = Talk("talk"), DoubleDevices()
    devices.listed = [ListedDevice(BOB, id_of("d1"), b"identity", 1), ListedDevice(CAROL, id_of("d2"), b"identity", 1)]
    talk.change_devices([BOB])
    refused = OwnWrites().answer(talk, send(devices_version=0, wants_devices=True, kinds=["k"]), devices)
    assert isinstance(refused, Error)
    assert (refused.code, refused.devices_version, refused.changed_users) == ("devices_changed", 1, [BOB])
    assert refused.devices is not None
    assert [(each.device, each.one_time_keys) for each in refused.devices] == [(id_of("d1"), [("k", 1, b"a key")])]
    assert isinstance(OwnWrites().answer(talk, send(devices_version=1), devices), Sent)
    everybody = OwnWrites().answer(talk, send(devices_version=9), devices)
    assert isinstance(everybody, Error)
    assert everybody.changed_users == [ME, BOB]


def test_a_control_message_is_taken_if_it_follows_the_last_one_and_its_retry_whatever_has_followed() -> None:
    talk, devices, writes = Talk("talk"), DoubleDevices(), OwnWrites()
    first = writes.answer(talk, send(follows=0), devices)
    talk.write(BOB, b"three", follows=1)
    assert writes.answer(talk, send(follows=0), devices) == first
    refused = writes.answer(talk, send(temp_id=b"u" * 16, follows=1), devices)
    assert isinstance(refused, Error)
    assert (refused.code, refused.control_seq) == ("control_conflict", 2)
