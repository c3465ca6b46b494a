"""The people of the reference's examples and their conversations, in a database, and texts with their ids."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from uuid import UUID, uuid4

from client.http import Credentials
from server.http.reference import examples
from store import accounts, conversations, emails, exports, notifiers
from store.messages import send
from store.notifiers import WebhookTarget
from store.objects.folder import Folder
from store.participant_lists import ParticipantsCache
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from tests.dead_jobs import new_dead_job
from tests.people import new_device, new_direct, new_group, new_user
from tests.server.http.test_email import unsubscribe_token_of
from tests.server.http.test_password_resets import reset_token_of
from tests.server.http_world import say
from tests.store.attachment_world import new_attachment
from tests.store.store_world import a_message

OPS_TOKEN: Final = "the-token-of-operators"
NAMES: Final = re.compile(r"\b(alice|bob|frank)\b")


def purpose_of(rule: str) -> str:
    """That of the token in the mail that a route needs."""
    return "unsubscribe" if "unsubscribe" in rule else "reset" if "reset" in rule else "verify"


async def scene(
    pool: Pool, number: int, password_hash: str, *, purpose: str, objects: Folder | None = None
) -> dict[str, str]:
    """The people of the examples and their conversations: each value of an example, and that of the scene.

    :param purpose: of the token in a mail.
    :param objects: the object store of the server.
    """
    alice = await new_device(pool, await accounts.add_user(pool, f"alice{number}", password_hash))
    bob, carol, dave, erin = [await new_user(pool, f"{name}{number}") for name in ("bob", "carol", "dave", "erin")]
    laptop = await new_device(pool, alice.user)
    direct, group = await new_direct(pool, alice, bob), await new_group(pool, alice, bob, carol)
    asked, _ = await conversations.add_direct(pool, erin.user, alice.user)
    await say(pool, group, alice.user, b"one", b"two")
    # Its seq is examples.CONTROL_SEQ.
    await send(pool, ParticipantsCache(), [a_message(group, bob.user, follows=0)])
    added = await notifiers.add(pool, alice.user, WebhookTarget("https://bot.example.org/alo", "whsec_x"))
    ids = {
        examples.ALICE: alice.user,
        examples.BOB: bob.user,
        examples.CAROL: carol.user,
        examples.DAVE: dave.user,
        examples.LAPTOP: laptop.device,
        examples.DIRECT: direct,
        examples.GROUP: group,
        examples.ASKED: asked,
        examples.WEBHOOK: added.notifier,
    }
    ids[examples.UPLOAD] = await new_attachment(pool, alice.user)
    ids[examples.ATTACHMENT] = await new_attachment(pool, alice.user, message=(group, 1))
    if objects is not None:
        ids[examples.EXPORT] = await new_export(pool, objects, alice)
    texts = {str(id_): str(UUID(bytes=value)) for id_, value in ids.items()}
    token = await mail_token(pool, alice, f"alice{number}@example.org", purpose)
    dead_job = str(await new_dead_job(pool))
    return {
        **texts,
        "$TOKEN": alice.token,
        "$OPS_TOKEN": OPS_TOKEN,
        examples.MAIL_TOKEN: token,
        examples.DEAD_JOB: dead_job,
    }


async def new_export(pool: Pool, objects: Folder, user: Credentials) -> bytes:
    """An export of the day before yesterday, with one part."""
    export = uuid4().bytes
    await objects.start()
    await objects.put(exports.key_of(export, 1), b"part", "application/gzip")
    await pool.fetch(
        "insert into exports (id, user_id, asked, ready, expires, parts, size_bytes)"
        " values (%s, %s, now() - interval '2 days', now(), now() + interval '1 day', 1, 4)",
        (uuid(export), uuid(user.user)),
    )
    return export


async def mail_token(pool: Pool, user: Credentials, address: str, purpose: str) -> str:
    await emails.put(pool, user.user, address, wants_digest=True, wants_device_notice=True, digest_hour=8, zone="UTC")
    mail = await emails.take_verification(pool, user.user)
    assert mail is not None
    if purpose == "reset":
        return await reset_token_of(pool, address)
    return await unsubscribe_token_of(pool, user) if purpose == "unsubscribe" else mail.token


def as_found(text: str, number: int, found: Mapping[str, str]) -> str:
    """The command with the values of the scene."""
    for shown, value in found.items():
        text = text.replace(shown, value)
    return NAMES.sub(rf"\g<1>{number}", text)
