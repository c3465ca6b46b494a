-- name: marks_function
-- The marks of participants in some conversations, which the caller has locked: the furthest of the last message with a
-- receipt and of the time up to which they had read. Marks never go back. Where two conversations of the source became
-- one, the mark lies before the first message that is unread in one of them.
create or replace function imported.take_marks(p_conversations uuid[]) returns void language plpgsql as $$
begin
    with found as materialized (
        select k.taken_as, m.conversation_id, m.user_id, i.is_placed, m.joined,
               greatest(by_time.seq, by_receipt.seq, 0) as read_seq, coalesce(received.seq, 0) as delivered_seq
        from imported.conversations k
        join imported.current_participants m on m.conversation_id = k.id
        join imported.participants i on i.conversation_id = m.conversation_id and i.user_id = m.user_id
        left join lateral (
            select t.seq from imported.messages t
            where t.conversation_id = m.conversation_id and t.place <= m.last_read
            order by t.place desc, t.seq desc limit 1
        ) by_time on true
        left join imported.old_marks o on o.conversation_id = m.conversation_id and o.user_id = m.user_id
        left join imported.messages by_receipt on by_receipt.id = o.read_id
            and by_receipt.conversation_id = m.conversation_id
        left join imported.messages received on received.id = o.delivered_id
            and received.conversation_id = m.conversation_id
        where k.taken_as = any(p_conversations)
    ), furthest as (
        select f.taken_as, f.user_id, max(f.delivered_seq) as delivered_seq, min(f.joined) as joined,
               bool_and(f.is_placed) as is_placed, min(f.conversation_id::text)::uuid as source_id,
               case when count(*) = 1 then max(f.read_seq)
                    else least(min(next.seq) - 1, max(top.seq)) end as read_seq
        from found f
        left join lateral (
            select min(t.seq) as seq from imported.messages t
            where t.conversation_id = f.conversation_id and t.seq > f.read_seq
        ) next on (select count(*) from imported.conversations o where o.taken_as = f.taken_as) > 1
        left join lateral (
            select max(t.seq) as seq from imported.messages t where t.conversation_id = f.conversation_id
        ) top on (select count(*) from imported.conversations o where o.taken_as = f.taken_as) > 1
        group by f.taken_as, f.user_id
    ), placed as (
        update imported.participants i set is_placed = true
        from found f where i.conversation_id = f.conversation_id and i.user_id = f.user_id and not i.is_placed
    )
    update participants p
    set read_seq = w.read_seq, delivered_seq = w.delivered_seq, since_seq = w.since_seq, marked = pg_current_xact_id()
    from (
        select q.conversation_id, q.user_id, greatest(q.read_seq, f.read_seq) as read_seq,
               greatest(q.delivered_seq, f.delivered_seq, f.read_seq) as delivered_seq,
               case when f.is_placed or c.kind = 'direct' then q.since_seq else coalesce((
                   select t.seq from imported.messages t
                   where t.conversation_id = f.source_id and t.place < f.joined
                   order by t.place desc, t.seq desc limit 1), 0) end as since_seq
        from furthest f
        join participants q on q.conversation_id = f.taken_as and q.user_id = f.user_id
        join conversations c on c.id = f.taken_as
    ) w
    where p.conversation_id = w.conversation_id and p.user_id = w.user_id
      and (p.read_seq, p.delivered_seq, p.since_seq) is distinct from (w.read_seq, w.delivered_seq, w.since_seq);
    -- A new statement, which sees the new marks.
    update participants p set uncounted = w.number
    from (
        select q.conversation_id, q.user_id,
               (select count(*) from uncounted_seqs(
                   q.conversation_id, q.user_id, greatest(count_base(q), c.floor_seq), c.last_seq)) as number
        from participants q join conversations c on c.id = q.conversation_id
        where q.conversation_id = any(p_conversations)
    ) w
    where p.conversation_id = w.conversation_id and p.user_id = w.user_id and p.uncounted <> w.number;
    -- Deleted users have left their groups.
    insert into departures (user_id, conversation_id, since_seq, left_seq, delivered_seq, read_seq, departed)
    select m.user_id, c.id, 0, c.last_seq, 0, 0, u.deleted
    from conversations c
    join imported.conversations k on k.taken_as = c.id
    join imported.current_participants m on m.conversation_id = k.id
    join users u on u.id = m.user_id and u.deleted is not null
    where c.id = any(p_conversations) and c.kind = 'group'
      and not exists (select from shown_participants p where p.conversation_id = c.id and p.user_id = m.user_id)
    on conflict do nothing;
end $$;
