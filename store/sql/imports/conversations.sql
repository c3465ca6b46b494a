-- name: new_titles
-- A page of the names of conversations that are new.
select o.id, o.name from imported.old_conversations o
where o.id > %(after)s::uuid and not exists (select from imported.conversations k where k.id = o.id)
order by o.id limit %(limit)s;

-- name: forget_titles
truncate imported.titles;

-- name: note_titles
insert into imported.titles (id, title, reason)
select * from jsonb_to_recordset(%(rows)s::jsonb) as t(id uuid, title text, reason text);

-- name: take
-- All new conversations in one transaction, and the participants of all. Two users have one direct conversation: the
-- messages of others between them go into the oldest, or into the one that the two have here.
analyze imported.old_conversations, imported.old_participants;
truncate imported.current_participants;
insert into imported.current_participants (conversation_id, user_id, last_read, joined, role)
select p.conversation_id, p.user_id, max(p.last_read), min(p.joined),
       max(case when p.role in ('admin', 'owner') then 'admin' end)
from imported.old_participants p
where exists (select from imported.users i where i.id = p.user_id)
  and exists (select from imported.old_conversations o where o.id = p.conversation_id)
group by p.conversation_id, p.user_id;
delete from imported.notes n
where n.about = 'participants' and n.reason in ('conversation_unknown', 'user_unknown', 'participant_twice');
insert into imported.notes (about, reason, id)
select 'participants',
       case when not exists (select from imported.old_conversations o where o.id = p.conversation_id)
            then 'conversation_unknown'
            when not exists (select from imported.users i where i.id = p.user_id) then 'user_unknown'
            else 'participant_twice' end,
       concat_ws('/', p.conversation_id, p.user_id)
from imported.old_participants p
group by p.conversation_id, p.user_id
having count(*) > 1 or not exists (select from imported.current_participants m
    where m.conversation_id = p.conversation_id and m.user_id = p.user_id);

create temporary table fresh on commit drop as
select o.*, coalesce(array_length(m.users, 1), 0) as number,
       case when o.type = 'direct' and array_length(m.users, 1) = 2 then m.users[1] end as low,
       case when o.type = 'direct' and array_length(m.users, 1) = 2 then m.users[2] end as high
from imported.old_conversations o
left join (select m.conversation_id, array_agg(m.user_id order by m.user_id) as users
           from imported.current_participants m group by m.conversation_id) m on m.conversation_id = o.id
where not exists (select from imported.conversations k where k.id = o.id);

insert into conversations (id, kind, created, active_at, direct_low, direct_high, low_blocks, high_blocks, is_closed)
select distinct on (f.low, f.high) f.id, 'direct', f.created, f.created, f.low, f.high, is_blocked(f.low, f.high),
       is_blocked(f.high, f.low),
       exists (select from users u where u.id in (f.low, f.high) and u.deleted is not null)
from fresh f where f.low is not null
order by f.low, f.high, f.created, f.id
on conflict on constraint conversations_direct do nothing;
insert into conversations (id, kind, name, created, active_at)
select f.id, 'group', coalesce(t.title, 'Group'), f.created, f.created
from fresh f left join imported.titles t on t.id = f.id
where f.low is null and f.number > 0 order by f.id;

insert into imported.conversations (id, taken_as)
select f.id, case when f.low is null then f.id else (
    select c.id from conversations c where c.direct_low = f.low and c.direct_high = f.high) end
from fresh f where f.number > 0;

delete from imported.notes n using fresh f where n.about = 'conversations' and n.id = f.id::text;
insert into imported.notes (about, reason, id, detail)
select 'conversations', r.reason, f.id::text, r.detail
from fresh f
left join imported.conversations k on k.id = f.id
left join imported.titles t on t.id = f.id
cross join lateral (
    values (case when f.number = 0 then 'no_participants' end, null),
           (case when k.taken_as <> f.id then 'direct_twice' end, f.id || ' -> ' || k.taken_as),
           (case when f.type = 'direct' and f.low is null and f.number > 0 then 'direct_not_of_two' end,
            f.number || ' participants'),
           (case when coalesce(f.type, '') not in ('direct', 'group') then 'type_unknown' end, f.type),
           (case when f.low is null and f.number > 0 then t.reason end, null),
           (case when f.number > {participants} then 'participants_many' end, f.number || ' participants'),
           (case when f.avatar_url is not null then 'avatar_not_taken' end, null)
) r(reason, detail)
where r.reason is not null;
delete from imported.notes n where n.about = 'conversations' and n.reason = 'gone_at_source';
insert into imported.notes (about, reason, id)
select 'conversations', 'gone_at_source', k.id::text from imported.conversations k
where not exists (select from imported.old_conversations o where o.id = k.id);

-- name: take_contacts
-- New contacts. A contact that a user removes here does not come back.
create temporary table fresh on commit drop as
select distinct k.user_id, k.contact_id from imported.old_contacts k
join users u on u.id = k.user_id and u.deleted is null join users o on o.id = k.contact_id and o.deleted is null
where k.user_id <> k.contact_id and not exists (
    select from imported.contacts i where i.user_id = k.user_id and i.contact_id = k.contact_id);
insert into contacts (user_id, contact_id) select f.user_id, f.contact_id from fresh f on conflict do nothing;
insert into imported.contacts (user_id, contact_id) select f.user_id, f.contact_id from fresh f;
delete from imported.notes n where n.about = 'contacts';
insert into imported.notes (about, reason, id)
select distinct 'contacts', case when k.user_id = k.contact_id then 'contact_of_oneself' else 'user_unknown' end,
       concat_ws('/', k.user_id, k.contact_id)
from imported.old_contacts k
where not exists (select from imported.contacts i where i.user_id = k.user_id and i.contact_id = k.contact_id);

-- name: participants_function
-- The participants of some conversations, which the caller has locked: those who are new, and those whom the source has
-- no longer.
create or replace function imported.take_participants(p_conversations uuid[]) returns void language plpgsql as $$
declare
    gone record;
    conversation conversations;
    begun uuid[] := array(
        select c.id from conversations c where c.id = any(p_conversations) and c.participant_count > 0);
    joined_by uuid[];
begin
    for gone in
        select c.id, i.user_id, array_agg(i.conversation_id) as sources from conversations c
        join imported.conversations k on k.taken_as = c.id
        join imported.participants i on i.conversation_id = k.id
        where c.id = any(p_conversations) and c.kind = 'group'
          and exists (select from imported.old_conversations o where o.id = k.id)
          and not exists (select from imported.current_participants m
              where m.conversation_id = k.id and m.user_id = i.user_id)
        group by c.id, i.user_id order by c.id, i.user_id
    loop
        delete from imported.participants i where i.user_id = gone.user_id and i.conversation_id = any(gone.sources);
        if exists (select from participants p where p.conversation_id = gone.id and p.user_id = gone.user_id) then
            select * into conversation from conversations c where c.id = gone.id;
            perform end_stay(conversation, gone.user_id, null);
        end if;
    end loop;
    with fresh as (
        insert into imported.participants (conversation_id, user_id)
        select m.conversation_id, m.user_id
        from imported.conversations k join imported.current_participants m on m.conversation_id = k.id
        where k.taken_as = any(p_conversations)
          and not exists (select from imported.participants i
              where i.conversation_id = m.conversation_id and i.user_id = m.user_id)
        returning conversation_id, user_id
    ), seen as (
        select c.id, c.kind, f.user_id, c.direct_low = f.user_id or c.direct_high = f.user_id as is_of_pair,
               min(least(greatest(coalesce(m.joined, c.created), c.created), now())) as joined, max(m.role) as role
        from fresh f
        join imported.conversations k on k.id = f.conversation_id
        join conversations c on c.id = k.taken_as
        join imported.current_participants m on m.conversation_id = f.conversation_id and m.user_id = f.user_id
        group by c.id, c.kind, f.user_id, is_of_pair
    ), noted as (
        insert into imported.notes (about, reason, id)
        select 'participants', 'direct_of_two_others', concat_ws('/', s.id, s.user_id) from seen s
        where s.kind = 'direct' and not s.is_of_pair on conflict do nothing
    ), made as (
        insert into participants (conversation_id, user_id, role, joined)
        select s.id, s.user_id, coalesce(s.role, 'member'), s.joined
        from seen s join users u on u.id = s.user_id
        where (s.kind = 'group' and u.deleted is null or s.is_of_pair)
          and not exists (select from departures d where d.conversation_id = s.id and d.user_id = s.user_id)
          and not exists (select from withheld w where w.conversation_id = s.id and w.user_id = s.user_id)
        on conflict do nothing
        returning conversation_id
    )
    select array_agg(distinct m.conversation_id) into joined_by from made m;
    update participants p set role = 'admin', changed = pg_current_xact_id()
    from (
        select distinct on (o.conversation_id) o.conversation_id, o.user_id
        from participants o join conversations c on c.id = o.conversation_id
        where o.conversation_id = any(joined_by) and c.kind = 'group'
          and not exists (select from shown_participants s where s.conversation_id = c.id and s.role = 'admin')
        order by o.conversation_id, o.joined, o.user_id
    ) first
    where p.conversation_id = first.conversation_id and p.user_id = first.user_id;
    perform note_participants(a.id) from unnest(joined_by) a(id) where a.id = any(begun);
end $$;
