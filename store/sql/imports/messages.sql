-- name: note_listed
-- Which messages are to be copied: those that are neither here as they are there, nor copied already.
analyze imported.listed;
delete from imported.arrivals a using imported.messages i where i.id = a.id and i.fingerprint = a.fingerprint;
delete from imported.arrivals a
where not exists (select from imported.listed l where l.id = a.id and l.fingerprint = a.fingerprint);
truncate imported.wanted;
insert into imported.wanted (n, id)
select l.n, l.id from imported.listed l
left join imported.messages i on i.id = l.id and i.fingerprint = l.fingerprint
left join imported.arrivals a on a.id = l.id
where i.id is null and a.id is null;
analyze imported.wanted;
delete from imported.notes n where n.about = 'messages' and n.reason = 'gone_at_source';
insert into imported.notes (about, reason, id)
select 'messages', 'gone_at_source', i.id::text from imported.messages i
where not exists (select from imported.listed l where l.id = i.id);

-- name: count_wanted
select count(*) from imported.wanted;

-- name: wanted
-- The next messages to copy, in the order in which the source stores them.
select max(w.n), array_agg(w.id)::text
from (select w.n, w.id from imported.wanted w where w.n > %(after)s order by w.n limit %(limit)s) w;

-- name: prepare
-- Senders of whom the source knows nothing become deleted users, and the conversations with rows to take are listed.
-- A message without a conversation has no place.
analyze imported.arrivals, imported.current_participants, imported.messages, imported.conversations,
    imported.old_attachments, imported.old_marks;
create temporary table strangers on commit drop as
select coalesce(a.sender_id, '00000000-0000-0000-0000-000000000000') as id, min(a.created) as created
from imported.arrivals a
where exists (select from imported.conversations k where k.id = a.conversation_id)
  and not exists (select from users u where u.id = coalesce(a.sender_id, '00000000-0000-0000-0000-000000000000'))
group by 1;
insert into users (id, username, password_hash, created, shows_presence, messages_from, groups_from, is_closed,
                   deleted)
select s.id, 'deleted user ' || left(md5(s.id::text), 16), '', s.created, false, 'nobody', 'nobody', true, s.created
from strangers s;
insert into imported.notes (about, reason, id) select 'messages', 'sender_unknown', s.id::text from strangers s
on conflict do nothing;
delete from imported.notes n
where n.about = 'messages' and n.reason in ('conversation_unknown', 'conversation_not_taken');
insert into imported.notes (about, reason, id, detail)
select 'messages', case when o.id is null then 'conversation_unknown' else 'conversation_not_taken' end, a.id::text,
       a.conversation_id::text
from imported.arrivals a left join imported.old_conversations o on o.id = a.conversation_id
where not exists (select from imported.conversations k where k.id = a.conversation_id);
delete from imported.notes n where n.about = 'receipts';
insert into imported.notes (about, reason, id)
select 'receipts', 'not_of_participant', concat_ws('/', o.conversation_id, o.user_id) from imported.old_marks o
where not exists (select from imported.current_participants m
    where m.conversation_id = o.conversation_id and m.user_id = o.user_id)
on conflict do nothing;
truncate imported.due;
insert into imported.due (conversation_id, rows)
select k.taken_as, 1 + coalesce(sum(a.rows), 0) + coalesce(sum(m.rows), 0)
from imported.conversations k
left join (select a.conversation_id, count(*) as rows from imported.arrivals a group by 1) a
    on a.conversation_id = k.id
left join (select m.conversation_id, count(*) as rows from imported.current_participants m group by 1) m
    on m.conversation_id = k.id
group by k.taken_as;
analyze imported.due;

-- name: count_due
select coalesce(sum(d.rows), 0)::bigint from imported.due d;

-- name: take_batch
-- Takes what is due in the next conversations, each as a whole. The row: the last of them, and the number of rows; null
-- at the end.
select taken.last, taken.rows from imported.take_batch(%(after)s::uuid, %(rows)s) taken;

-- name: messages_function
-- New messages of some conversations, which the caller has locked, in the order of (created_at, id) after those that
-- are here. `created` never decreases (P2): a message that comes after a younger one gets its time.
create or replace function imported.take_messages(p_conversations uuid[]) returns void language plpgsql as $$
begin
    with fresh as materialized (
        select c.id as conversation_id, a.id, a.conversation_id as source_id, a.fingerprint, a.created as old_created,
               coalesce(a.sender_id, '00000000-0000-0000-0000-000000000000') as sender_id,
               greatest(a.created, last.created) as created, a.is_bounded, a.deleted, a.reason, a.detail,
               coalesce(nullif(a.content_type, ''), 'text') as content_type, a.content, a.nonce,
               a.ephemeral_public_key,
               c.last_seq + row_number() over (partition by c.id order by a.created, a.id) as seq
        from conversations c
        join imported.conversations k on k.taken_as = c.id
        join imported.arrivals a on a.conversation_id = k.id
        left join lateral (
            select m.created from messages m where m.conversation_id = c.id order by m.seq desc limit 1
        ) last on true
        where c.id = any(p_conversations)
          and not exists (select from imported.messages i where i.id = a.id)
    ), to_messages as (
        insert into messages (conversation_id, seq, id, sender_id, created, content_type, content, nonce,
                              ephemeral_public_key, deleted)
        select f.conversation_id, f.seq, f.id, f.sender_id, f.created,
               case when f.is_gone then '' else f.content_type end,
               case when f.is_gone then '' else convert_to(f.content, 'UTF8') end,
               case when not f.is_gone then convert_to(f.nonce, 'UTF8') end,
               case when not f.is_gone then convert_to(f.ephemeral_public_key, 'UTF8') end,
               case when f.is_gone then coalesce(f.deleted, f.created) end
        from (select f.*, f.deleted is not null or f.reason is not null as is_gone from fresh f) f
        order by f.conversation_id, f.seq
    ), to_imported as (
        insert into imported.messages (id, conversation_id, place, seq, fingerprint)
        select f.id, f.source_id, f.created, f.seq, f.fingerprint from fresh f
    ), noted as (
        insert into imported.notes (about, reason, id, detail)
        select 'messages', r.reason, f.id::text, r.detail from fresh f
        cross join lateral (
            values (case when f.deleted is null then f.reason end, f.detail),
                   (case when f.is_bounded then 'created_bounded' end, f.old_created::text),
                   (case when f.created > f.old_created then 'created_raised' end,
                    f.old_created || ' -> ' || f.created)
        ) r(reason, detail)
        where r.reason is not null on conflict do nothing
    ), older as (
        update expiries e set oldest = f.created
        from (select f.conversation_id, min(f.created) as created from fresh f group by 1) f
        where e.conversation_id = f.conversation_id and e.oldest > f.created
    ), moved as (
        update conversations c
        set last_seq = f.seq, active_at = greatest(c.active_at, f.created), changed = pg_current_xact_id()
        from (select f.conversation_id, max(f.seq) as seq, max(f.created) as created from fresh f group by 1) f
        where c.id = f.conversation_id
    ), own_marks as (
        update participants p
        set read_seq = greatest(p.read_seq, f.seq), delivered_seq = greatest(p.delivered_seq, f.seq),
            written_seq = greatest(p.written_seq, f.seq), marked = pg_current_xact_id()
        from (select f.conversation_id, f.sender_id, max(f.seq) as seq from fresh f group by 1, 2) f
        where p.conversation_id = f.conversation_id and p.user_id = f.sender_id
    )
    -- A sender who takes no part has left.
    insert into departures (user_id, conversation_id, since_seq, left_seq, delivered_seq, read_seq, departed)
    select f.sender_id, f.conversation_id, 0, f.seq, f.seq, f.seq, f.created
    from (select f.sender_id, f.conversation_id, max(f.seq) as seq, max(f.created) as created
          from fresh f group by 1, 2) f
    where not exists (select from shown_participants p
        where p.conversation_id = f.conversation_id and p.user_id = f.sender_id)
    on conflict do nothing;
end $$;

-- name: changes_function
-- Messages of some conversations that have changed at the source since they were taken. A message that was deleted
-- there is deleted here, and another content is an edit, unless the message has changed here, too.
create or replace function imported.follow_changes(p_conversations uuid[]) returns void language plpgsql as $$
declare
    one record;
    conversation conversations;
    old messages;
    stamp timestamptz;
    outcome text;
begin
    for one in
        select a.*, i.seq, k.taken_as, i.conversation_id as source_id from imported.conversations k
        join imported.arrivals a on a.conversation_id = k.id
        join imported.messages i on i.id = a.id and i.fingerprint <> a.fingerprint
        where k.taken_as = any(p_conversations) order by k.taken_as, i.seq
    loop
        select * into conversation from conversations c where c.id = one.taken_as;
        select * into old from messages m where m.conversation_id = one.taken_as and m.seq = one.seq;
        outcome := case
            when old.id is distinct from one.id or one.source_id <> one.conversation_id
                 or one.sender_id is distinct from old.sender_id then 'change_not_followed'
            when old.deleted is not null then case when one.deleted is null then 'change_not_followed' end
            when one.deleted is not null or one.reason is not null then 'erase'
            when (old.content, old.content_type)
                     = (convert_to(one.content, 'UTF8'), coalesce(nullif(one.content_type, ''), 'text'))
                 and (old.nonce, old.ephemeral_public_key) is not distinct from
                     (convert_to(one.nonce, 'UTF8'), convert_to(one.ephemeral_public_key, 'UTF8')) then 'change_not_followed'
            when exists (select from revisions r where r.conversation_id = one.taken_as and r.seq = one.seq
                         and cardinality(r.digests) > 0) then 'changed_on_both_sides'
            else 'edit' end;
        if outcome = 'erase' then
            perform erase_message(conversation, old, null);
            outcome := case when one.deleted is null then one.reason end;
        elsif outcome = 'edit' then
            stamp := greatest(clock_timestamp(), old.created, old.edited);
            update messages m
            set content_type = coalesce(nullif(one.content_type, ''), 'text'),
                content = convert_to(one.content, 'UTF8'),
                nonce = convert_to(one.nonce, 'UTF8'),
                ephemeral_public_key = convert_to(one.ephemeral_public_key, 'UTF8'),
                revision = m.revision + 1, edited = stamp
            where m.conversation_id = one.taken_as and m.seq = one.seq;
            perform note_revision(one.taken_as, one.seq);
            outcome := null;
        end if;
        insert into imported.notes (about, reason, id, detail)
        select 'messages', outcome, one.id::text, one.detail where outcome is not null on conflict do nothing;
        update imported.messages i set fingerprint = one.fingerprint where i.id = one.id;
    end loop;
end $$;

-- name: batch_function
-- See take_batch.
create or replace function imported.take_batch(p_after uuid, p_rows bigint, out last uuid, out rows bigint)
language plpgsql as $$
declare
    chosen uuid[];
begin
    select array_agg(d.conversation_id order by d.conversation_id), sum(d.rows) into chosen, rows
    from (
        select d.conversation_id, d.rows, sum(d.rows) over (order by d.conversation_id) - d.rows as before
        from (select * from imported.due d where d.conversation_id > p_after order by d.conversation_id limit 1000) d
    ) d
    where d.before < p_rows;
    if chosen is null then
        return;
    end if;
    last := chosen[cardinality(chosen)];
    -- In the order of their keys, as sends and marks lock them. The statements below see what was committed before.
    perform from conversations c where c.id = any(chosen) order by c.id for no key update;
    perform from participants p where p.conversation_id = any(chosen)
    order by p.conversation_id, p.user_id for no key update;
    perform imported.take_participants(chosen);
    perform imported.take_messages(chosen);
    perform imported.follow_changes(chosen);
    perform imported.take_marks(chosen);
    perform imported.take_attachments(chosen);
end $$;
