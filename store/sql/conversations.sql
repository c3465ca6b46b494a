-- name: add_direct
-- The direct conversation of two users: made if there is none. One row: its id, and whether it is new.
select conversation, is_new from add_direct(%(conversation)s::uuid, %(user)s::uuid, %(other)s::uuid);

-- name: add_group
-- A group with its first participants, of whom one is its administrator.
with made as (
    insert into conversations (id, kind, name) values (%(conversation)s::uuid, 'group', %(name)s) returning id
)
insert into participants (conversation_id, user_id, role)
select made.id, u, case when u = %(admin)s::uuid then 'admin' else 'member' end
from made, unnest(%(users)s::uuid[]) u order by u;

-- name: list
-- A page of a user's conversations, the latest message first, each with participants, last message and unread count;
-- or some conversations, where they are given.
select c.id, (extract(epoch from c.created) * 1000000)::bigint, c.kind, c.name,
       me.joined_seq + 1, c.last_seq, greatest(c.last_seq - greatest(me.read_seq, me.private_read_seq, me.joined_seq), 0),
       (extract(epoch from c.active_at) * 1000000)::bigint,
       who.users, who.usernames, who.joined, who.delivered, who.read,
       m.seq, m.id, (extract(epoch from m.created) * 1000000)::bigint, m.sender_id, m.content_type, m.content, m.nonce,
       m.ephemeral_public_key, nullif(m.revision, 0), (extract(epoch from m.edited) * 1000000)::bigint, m.reply_to,
       m.deleted is not null or m.is_silent and m.sender_id <> me.user_id or exists (
           select from hidden h where h.user_id = me.user_id and h.conversation_id = c.id and h.seq = m.seq
       )
from participants me
join conversations c on c.id = me.conversation_id
cross join lateral (
    select array_agg(p.user_id order by p.user_id) as users, array_agg(u.username order by p.user_id) as usernames,
           array_agg(p.joined_seq order by p.user_id) as joined,
           array_agg(p.delivered_seq order by p.user_id) as delivered,
           array_agg(p.read_seq order by p.user_id) as read
    from participants p join users u on u.id = p.user_id where p.conversation_id = c.id
) who
left join messages m on m.conversation_id = c.id and m.seq = c.last_seq and m.seq > me.joined_seq
where me.user_id = %(user)s::uuid
  and (%(conversations)s::uuid[] is null or me.conversation_id = any(%(conversations)s::uuid[]))
  and (%(before)s::bigint is null
       or ((extract(epoch from c.active_at) * 1000000)::bigint, c.id) < (%(before)s::bigint, %(before_id)s::uuid))
order by (extract(epoch from c.active_at) * 1000000)::bigint desc, c.id desc
limit %(limit)s;
