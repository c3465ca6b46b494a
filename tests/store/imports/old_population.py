"""Any database of the service before this one: a property test draws it, troubles included."""

from __future__ import annotations

from random import Random

from tests.store.imports.old_world import HASH, OldWorld, at

NAMES = ("ann", "Ann", "ANN ", "admin", "bäcker", "two words", "", "x" * 40)
KINDS = ("direct", "group", "direct", "channel")


def populate(old: OldWorld, seed: int) -> None:
    """Fill the database, whose constraints are relaxed, with rows that depend on the seed alone."""
    random = Random(seed)
    old.run("alter table users drop constraint users_username_key")
    users = [f"u{n}" for n in range(random.randrange(2, 9))]
    known = [*users, "stranger"]
    _add_users(old, random, users)
    conversations = [f"c{n}" for n in range(random.randrange(1, 7))]
    _add_conversations(old, random, conversations, known)
    _add_messages(old, random, [*conversations, "no conversation"], known)
    for _ in range(random.randrange(6)):
        user, contact = random.choice(users), random.choice(known)
        old.run(
            "insert into contacts select id, md5(%s)::uuid from users where id = md5(%s)::uuid on conflict do nothing",
            *(contact, user),
        )


def _add_users(old: OldWorld, random: Random, users: list[str]) -> None:
    for user in users:
        if random.random() < 0.9:
            old.login(
                user,
                deleted_at=at(1) if random.random() < 0.1 else None,
                banned_until="infinity" if random.random() < 0.1 else None,
                encrypted_password=random.choice([HASH, None, "unknown"]),
                email_confirmed_at=random.choice([None, at(2)]),
            )
        if random.random() < 0.9:
            name = random.choice([*NAMES, user, user])
            old.add("users", id=user, username=name, created_at=at(random.randrange(3)), last_seen_at=at(3))


def _add_conversations(old: OldWorld, random: Random, conversations: list[str], known: list[str]) -> None:
    for conversation in conversations:
        kind = random.choice(KINDS)
        number = 2 if kind == "direct" and random.random() < 0.8 else random.randrange(5)
        name = random.choice([None, "A group", "\u202e"])
        old.add("conversations", id=conversation, type=kind, name=name, created_at=at(random.randrange(5)))
        for user in random.sample(known, min(number, len(known))):
            read = random.choice([None, at(random.randrange(60))])
            old.participant(conversation, user, last_read_at=read, joined_at=at(random.randrange(20)))


def _add_messages(old: OldWorld, random: Random, conversations: list[str], known: list[str]) -> None:
    for n in range(random.randrange(40)):
        message = f"m{n}"
        old.message(
            message,
            random.choice(conversations),
            random.choice(known),
            random.choice([5, 5, 6, random.randrange(50)]),
            deleted_at=at(70) if random.random() < 0.15 else None,
            encrypted_content=random.choice(["short", "\\x00 \U0001f600", "long" * 20_000, None]),
        )
        if random.random() < 0.4:
            old.receipt(message, random.choice(known), random.choice(["sent", "delivered", "read"]))
        if random.random() < 0.2:
            thumbnail = random.choice([None, "t"])
            old.add(
                "attachments",
                id=f"a{n}",
                message_id=message,
                r2_key=f"k/{random.randrange(10)}",
                thumbnail_r2_key=thumbnail,
            )
