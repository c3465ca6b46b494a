"""The users and conversations of a mixed day: the same, with the same messages, in the database of each server.

Zipf's law gives the sizes: the n-th largest conversation has 1/n of the participants of the largest, and at least two.
Participants are chosen at random, so that each user takes part in at least one conversation. The conversations come in
order of size, and `bench.mixture` makes earlier ones busier. Each already has more messages than a page holds, all of
them delivered and read.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Final

import psycopg

from bench.rows import OUR_USERS, PEERS_USERS, Id, base64_sql, ciphertext_sql, id_sql, id_text, participant
from bench.workload import NONCE_BYTES, Chat

MESSAGES: Final = 60
"""Messages of each conversation before the day begins."""

CONTENT_BYTES: Final = 200

_SEED: Final = 1


@dataclass(frozen=True)
class Population:
    """Users 0, 1, 2 and so on, and conversations of them.

    :ivar conversations: the users of each.
    """

    users: int
    conversations: tuple[tuple[int, ...], ...]

    def chats(self) -> list[Chat]:
        """The conversations for the generator."""
        return [
            Chat(id_text(Id.CONVERSATION, number), tuple(map(participant, users)), writers=len(users))
            for number, users in enumerate(self.conversations)
        ]


def populate(users: int, conversations: int, largest: int) -> Population:
    """A population whose largest conversation has this number of participants. No two users share two direct chats."""
    chance = random.Random(_SEED)
    made: list[tuple[int, ...]] = []
    pairs: set[frozenset[int]] = set()
    alone = set(range(users))
    while len(made) < conversations:
        size = min(users, max(2, round(largest / (len(made) + 1))))
        due = min(size, math.ceil(len(alone) / (conversations - len(made))))
        chosen = frozenset(chance.sample(sorted(alone), due))
        chosen |= frozenset(chance.sample(sorted(set(range(users)) - chosen), size - due))
        if size > 2 or chosen not in pairs:
            pairs.add(chosen)
            alone -= chosen
            made.append(tuple(sorted(chosen)))
    return Population(users, tuple(made))


_PLACES: Final = """
create temporary table places (c int, u int, k int);
"""
"""The k-th participant of conversation c is user u."""

_CONTENT, _NONCE = ciphertext_sql("c || ':' || s", CONTENT_BYTES), ciphertext_sql("'nonce' || c || s", NONCE_BYTES)

_FILL_OURS: Final = f"""
insert into conversations (id, kind, name, direct_low, direct_high, last_seq)
    select {id_sql(Id.CONVERSATION, "c")}, case count(*) when 2 then 'direct' else 'group' end,
           case when count(*) > 2 then 'Group ' || c end,
           case count(*) when 2 then min({id_sql(Id.USER, "u")}::text)::uuid end,
           case count(*) when 2 then max({id_sql(Id.USER, "u")}::text)::uuid end, {MESSAGES}
    from places group by c;
insert into participants (conversation_id, user_id, delivered_seq, read_seq)
    select {id_sql(Id.CONVERSATION, "c")}, {id_sql(Id.USER, "u")}, {MESSAGES}, {MESSAGES} from places;
insert into contacts (user_id, contact_id)
    select {id_sql(Id.USER, "a.u")}, {id_sql(Id.USER, "b.u")} from places a join places b on b.c = a.c and b.u <> a.u
    where a.c in (select c from places group by c having count(*) = 2);
insert into messages (conversation_id, seq, id, sender_id, created, content_type, content, nonce)
    select {id_sql(Id.CONVERSATION, "c")}, s, gen_random_uuid(), {id_sql(Id.USER, "u")},
           now() - make_interval(mins => {MESSAGES} - s), 'text', {_CONTENT}, {_NONCE}
    from generate_series(1, {MESSAGES}) s join (select *, count(*) over (partition by c) as size from places) p
        on p.k = s % p.size;
"""

_FILL_PEERS: Final = f"""
insert into conversations (id, type, name, updated_at)
    select {id_sql(Id.CONVERSATION, "c")}, case count(*) when 2 then 'direct' else 'group' end,
           case when count(*) > 2 then 'Group ' || c end, now()
    from places group by c;
insert into conversation_participants (conversation_id, user_id, last_read_at)
    select {id_sql(Id.CONVERSATION, "c")}, {id_sql(Id.USER, "u")}, now() from places;
insert into contacts (user_id, contact_user_id)
    select {id_sql(Id.USER, "a.u")}, {id_sql(Id.USER, "b.u")} from places a join places b on b.c = a.c and b.u <> a.u
    where a.c in (select c from places group by c having count(*) = 2);
insert into messages (conversation_id, sender_id, encrypted_content, nonce, created_at)
    select {id_sql(Id.CONVERSATION, "c")}, {id_sql(Id.USER, "u")},
           {base64_sql(_CONTENT)}, {base64_sql(_NONCE)},
           now() - make_interval(mins => {MESSAGES} - s)
    from generate_series(1, {MESSAGES}) s join (select *, count(*) over (partition by c) as size from places) p
        on p.k = s % p.size;
"""


def fill_ours(database_url: str, population: Population) -> None:
    """Insert the population into our empty, migrated database."""
    _fill(database_url, population, OUR_USERS + _FILL_OURS)


def fill_peers(database_url: str, population: Population) -> None:
    """Insert the population into a peer's empty database."""
    _fill(database_url, population, PEERS_USERS + _FILL_PEERS)


def _fill(database_url: str, population: Population, rows: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(_PLACES)
        with connection.cursor().copy("copy places from stdin") as copy:
            for number, users in enumerate(population.conversations):
                for place, user in enumerate(users):
                    copy.write_row((number, user, place))
        connection.execute(rows.format(users=population.users).encode())
