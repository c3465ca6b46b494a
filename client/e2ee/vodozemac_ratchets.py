"""Olm and Megolm by vodozemac (https://github.com/matrix-org/vodozemac): the one file that meets that library."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable

import vodozemac

from client.e2ee.ratchets import CannotDecrypt, OlmMessage, TooEarly


class VodozemacRatchets:
    """Implements `client.e2ee.ratchets.Ratchets`; states are the library's pickles.

    :param pickle_key: 32 secret bytes, which encrypt the pickles.
    """

    def __init__(self, pickle_key: bytes) -> None:
        self._key = pickle_key

    def new_account(self) -> bytes:
        return self._pickled(vodozemac.Account())

    def public_keys(self, account: bytes) -> tuple[bytes, bytes]:
        held = self._account(account)
        return held.curve25519_key.to_bytes(), _bytes(held.ed25519_key.to_base64())

    def sign(self, account: bytes, data: bytes) -> bytes:
        return _bytes(self._account(account).sign(data).to_base64())

    def is_signed(self, public_key: bytes, data: bytes, signature: bytes) -> bool:
        try:
            key = vodozemac.Ed25519PublicKey.from_base64(_base64(public_key))
            key.verify_signature(data, vodozemac.Ed25519Signature.from_base64(_base64(signature)))
        except ValueError:
            return False
        return True

    def add_one_time_keys(self, account: bytes, count: int) -> tuple[bytes, list[bytes]]:
        held = self._account(account)
        held.generate_one_time_keys(count)
        keys = _public(held.one_time_keys.values())
        held.mark_keys_as_published()
        return self._pickled(held), keys

    def add_last_resort_key(self, account: bytes) -> tuple[bytes, bytes]:
        held = self._account(account)
        held.generate_fallback_key()  # type: ignore[attr-defined]
        [key] = _public(held.fallback_key.values())  # type: ignore[attr-defined]
        held.mark_keys_as_published()
        return self._pickled(held), key

    def begin(self, account: bytes, curve_key: bytes, one_time_key: bytes) -> bytes:
        try:
            identity = vodozemac.Curve25519PublicKey.from_bytes(curve_key)
            key = vodozemac.Curve25519PublicKey.from_bytes(one_time_key)
            return self._pickled(self._account(account).create_outbound_session(identity, key))
        except ValueError as error:
            raise CannotDecrypt(str(error)) from None

    def accept(self, account: bytes, curve_key: bytes, message: OlmMessage) -> tuple[bytes, bytes, bytes]:
        held = self._account(account)
        try:
            identity = vodozemac.Curve25519PublicKey.from_bytes(curve_key)
            session, plaintext = held.create_inbound_session(identity, _pre_key(message))
        except ValueError as error:
            raise CannotDecrypt(str(error)) from None
        return self._pickled(held), self._pickled(session), bytes(plaintext)

    def has_begun(self, session: bytes, message: OlmMessage) -> bool:
        try:
            return self._session(session).session_matches(_pre_key(message))
        except ValueError:
            return False

    def encrypt(self, session: bytes, plaintext: bytes) -> tuple[bytes, OlmMessage]:
        held = self._session(session)
        kind, body = held.encrypt(plaintext).to_parts()
        return self._pickled(held), OlmMessage(kind, bytes(body))

    def decrypt(self, session: bytes, message: OlmMessage) -> tuple[bytes, bytes]:
        held = self._session(session)
        try:
            plaintext = held.decrypt(vodozemac.AnyOlmMessage.from_parts(message.kind, message.body))
        except ValueError as error:
            raise CannotDecrypt(str(error)) from None
        return self._pickled(held), bytes(plaintext)

    def new_sender(self) -> tuple[bytes, str]:
        made = vodozemac.GroupSession()
        return self._pickled(made), made.session_id

    def sender_key(self, sender: bytes) -> bytes:
        return _bytes(self._sender(sender).session_key.to_base64())

    def encrypt_for_readers(self, sender: bytes, plaintext: bytes) -> tuple[bytes, bytes]:
        held = self._sender(sender)
        ciphertext = bytes(held.encrypt(plaintext).to_bytes())
        return self._pickled(held), ciphertext

    def new_reader(self, key: bytes) -> tuple[bytes, str, int]:
        try:
            made = vodozemac.InboundGroupSession(vodozemac.SessionKey(_base64(key)))
        except ValueError as error:
            raise CannotDecrypt(str(error)) from None
        return self._pickled(made), made.session_id, made.first_known_index

    def decrypt_as_reader(self, reader: bytes, ciphertext: bytes) -> tuple[bytes, int]:
        held = vodozemac.InboundGroupSession.from_pickle(reader.decode(), self._key)
        try:
            message = vodozemac.MegolmMessage.from_bytes(ciphertext)
            if message.message_index() < held.first_known_index:
                raise TooEarly(f"from before the index {held.first_known_index}")
            opened = held.decrypt(message)
        except ValueError as error:
            raise CannotDecrypt(str(error)) from None
        return bytes(opened.plaintext), opened.message_index

    def _pickled(
        self,
        held: vodozemac.Account | vodozemac.Session | vodozemac.GroupSession | vodozemac.InboundGroupSession,
    ) -> bytes:
        return held.pickle(self._key).encode()

    def _account(self, state: bytes) -> vodozemac.Account:
        return vodozemac.Account.from_pickle(state.decode(), self._key)

    def _session(self, state: bytes) -> vodozemac.Session:
        return vodozemac.Session.from_pickle(state.decode(), self._key)

    def _sender(self, state: bytes) -> vodozemac.GroupSession:
        return vodozemac.GroupSession.from_pickle(state.decode(), self._key)


def _pre_key(message: OlmMessage) -> vodozemac.PreKeyMessage:
    found = vodozemac.AnyOlmMessage.from_parts(message.kind, message.body).to_pre_key()
    if found is None:
        raise ValueError("a message of kind 1 begins no session")
    return found


def _public(keys: Iterable[vodozemac.Curve25519PublicKey]) -> list[bytes]:
    return [key.to_bytes() for key in keys]


def _bytes(text: str) -> bytes:
    """The library writes base64 without the padding at the end."""
    return b64decode(text + "=" * (-len(text) % 4))


def _base64(data: bytes) -> str:
    return b64encode(data).decode().rstrip("=")
