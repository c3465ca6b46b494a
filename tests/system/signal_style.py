"""Devices in the way of Signal: X3DH begins a session with each device, and a double ratchet encrypts for it.

They use the client's session and its device sets, and nothing of `client.e2ee`. One kind of keys: a one-time key is the
signed prekey with its signature and a prekey; the last-resort key is the signed prekey alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import doubleratchet
import msgspec
import x3dh
from doubleratchet.recommended import (
    HashFunction,
    aead_aes_hmac,
    diffie_hellman_ratchet_curve25519,
    kdf_hkdf,
    kdf_separate_hmacs,
)

from client.addressing import Addressing, ListedSet
from client.http import Credentials
from client.session import Session
from protocol.frames import ListedDevice, Message, OneTimeKey, Sent

KIND: Final = "x3dh"
TEXT: Final = "application/vnd.example.signal"

_PUBLIC_BYTES: Final = 32
_SIGNED_BYTES: Final = 96
"""Of a signed prekey and its signature."""

_Packed: TypeAlias = tuple[bytes, int, int, bytes]
"""Header and ciphertext of a message of the double ratchet."""

_PackedBegin: TypeAlias = tuple[bytes, bytes, bytes, bytes | None]
"""Header of X3DH, from the device that begins."""


class _State(x3dh.BaseState):
    @staticmethod
    def _encode_public_key(key_format: x3dh.IdentityKeyFormat, pub: bytes) -> bytes:
        return b"\x05" + pub


class _Aead(aead_aes_hmac.AEAD):
    @staticmethod
    def _get_hash_function() -> HashFunction:
        return HashFunction.SHA_256

    @staticmethod
    def _get_info() -> bytes:
        return b"messages"


class _RootKdf(kdf_hkdf.KDF):
    @staticmethod
    def _get_hash_function() -> HashFunction:
        return HashFunction.SHA_256

    @staticmethod
    def _get_info() -> bytes:
        return b"roots"


class _MessageKdf(kdf_separate_hmacs.KDF):
    @staticmethod
    def _get_hash_function() -> HashFunction:
        return HashFunction.SHA_256


class _Ratchet(doubleratchet.DoubleRatchet):
    @staticmethod
    def _build_associated_data(associated_data: bytes, header: doubleratchet.Header) -> bytes:
        return msgspec.msgpack.encode((associated_data, *header))


_CONFIGURATION: Final = {
    "diffie_hellman_ratchet_class": diffie_hellman_ratchet_curve25519.DiffieHellmanRatchet,
    "root_chain_kdf": _RootKdf,
    "message_chain_kdf": _MessageKdf,
    "message_chain_constant": b"\x01\x02",
    "dos_protection_threshold": 100,
    "max_num_skipped_message_keys": 1000,
    "aead": _Aead,
}


class SignalDevice:
    """A device of a user.

    :ivar last_resort_begins: how many sessions others have begun with this device without a prekey.
    """

    def __init__(self, session: Session, credentials: Credentials) -> None:
        self.credentials = credentials
        self.session = session
        self.last_resort_begins = 0
        self._state = _State.create(x3dh.IdentityKeyFormat.CURVE_25519, x3dh.HashFunction.SHA_256, b"alo tests")
        self._addressing = Addressing(session)
        self._sets: dict[bytes, ListedSet] = {}
        self._sessions: dict[bytes, tuple[_Ratchet, bytes]] = {}
        self._begins: dict[bytes, _PackedBegin] = {}
        self._number = 0

    async def publish(self, prekeys: int) -> None:
        """Upload the identity, the signed prekey and so many new prekeys."""
        known = self._state.bundle.pre_keys
        self._state.generate_pre_keys(prekeys)
        bundle = self._state.bundle
        signed = bundle.signed_pre_key + bundle.signed_pre_key_sig
        keys: list[OneTimeKey] = []
        for prekey in sorted(bundle.pre_keys - known):
            self._number += 1
            keys.append((KIND, self._number, signed + prekey))
        history = (await self.session.insist(lambda connection: connection.key_status())).key_history
        await self.session.insist(
            lambda connection: connection.put_keys(
                bundle.identity_key, keys or None, [(KIND, 1, signed)], key_history=history
            )
        )

    async def send(self, conversation: bytes, text: str) -> Sent:
        """Encrypt for each device of the present set."""
        known = self._sets.get(conversation)
        if known is None:
            known = await self._addressing.present(conversation, kinds=[KIND], begins_with=self._lacks_session_with)
        sent, self._sets[conversation] = await self._addressing.send(
            conversation, known, self._sealer(text.encode()), content_type=TEXT, kinds=[KIND]
        )
        return sent

    def _lacks_session_with(self, user: bytes) -> bool:
        return not any(other[:16] == user for other in self._sessions)

    def _sealer(self, text: bytes) -> Callable[[ListedSet], Awaitable[tuple[bytes, list[tuple[bytes, bytes]]]]]:
        async def seal(known: ListedSet) -> tuple[bytes, list[tuple[bytes, bytes]]]:
            own = self.credentials.device
            missing = [each for each in known.devices if each.device != own and self._name(each) not in self._sessions]
            claimed = {each.device: each for each in missing if each.one_time_keys or each.last_resort_keys}
            users = sorted({each.user for each in missing if each.device not in claimed})
            for each in await self._addressing.devices(users, kinds=[KIND]) if users else ():
                claimed[each.device] = each
            others = [claimed.get(each.device, each) for each in known.devices if each.device != own]
            return b"", [(each.device, await self._encrypt(each, text)) for each in others]

        return seal

    @staticmethod
    def _name(device: ListedDevice) -> bytes:
        return device.user + device.device + device.identity

    async def _encrypt(self, device: ListedDevice, text: bytes) -> bytes:
        name = self._name(device)
        held = self._sessions.get(name)
        if held is None:
            [(_, _, key)] = device.one_time_keys or device.last_resort_keys or []
            signed, prekey = key[:_SIGNED_BYTES], key[_SIGNED_BYTES:]
            bundle = x3dh.Bundle(
                device.identity,
                signed[:_PUBLIC_BYTES],
                signed[_PUBLIC_BYTES:],
                frozenset([prekey] if prekey else []),
            )
            secret, bound, header = await self._state.get_shared_secret_active(bundle, require_pre_key=False)
            ratchet, message = await _Ratchet.encrypt_initial_message(
                **_CONFIGURATION,
                shared_secret=secret,
                recipient_ratchet_pub=bundle.signed_pre_key,
                message=text,
                associated_data=bound,
            )
            self._sessions[name], self._begins[name] = (ratchet, bound), tuple(header)
        else:
            message = await held[0].encrypt_message(text, held[1])
        packed: _Packed = (*message.header, message.ciphertext)
        # Until the other device has answered it may lack the session, so each message repeats how to begin it.
        return msgspec.msgpack.encode((self._state.bundle.identity_key, self._begins.get(name), packed))

    async def read(self, message: Message) -> str | None:
        """The text of a message; None if there is no envelope for this device."""
        if message.envelope is None or message.device is None:
            return None
        identity, begin, (public, previous, length, ciphertext) = msgspec.msgpack.decode(
            message.envelope, type=tuple[bytes, _PackedBegin | None, _Packed]
        )
        name = message.sender + message.device + identity
        encrypted = doubleratchet.EncryptedMessage(doubleratchet.Header(public, previous, length), ciphertext)
        held = self._sessions.get(name)
        if held is None:
            assert begin is not None, "no session, and none begins"
            header = x3dh.Header(*begin)
            assert header.identity_key == identity
            secret, bound, signed = await self._state.get_shared_secret_passive(header, require_pre_key=False)
            ratchet, text = await _Ratchet.decrypt_initial_message(
                **_CONFIGURATION,
                shared_secret=secret,
                own_ratchet_priv=signed.priv,
                message=encrypted,
                associated_data=bound,
            )
            self._sessions[name] = ratchet, bound
            if header.pre_key is None:
                self.last_resort_begins += 1
            else:
                assert self._state.delete_pre_key(header.pre_key), "a prekey begins one session"
        else:
            text = await held[0].decrypt_message(encrypted, held[1])
            self._begins.pop(name, None)
        return text.decode()
