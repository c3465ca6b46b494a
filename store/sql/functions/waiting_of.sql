-- The messages that wait for a user, as notices use them. Conversations that want no notices count for the sums of
-- marks alone.
--
-- p_read_after: how long a message that one device has may stay unread.
-- is_undelivered: there is a message that no device of the user has marked delivered.
-- unread_by: the devices that received messages which are unread for p_read_after or longer; null without such
--     messages.
-- oldest, newest: when the first and the last unread message were sent; null: all are read.
-- delivered, read: the sums of the user's marks, without conversations whose sender the user blocks. Each mark of a
--     device moves one of them; otherwise only joining and leaving do.
create or replace function waiting_of(
    p_user uuid, p_read_after interval,
    out is_undelivered boolean, out unread_by uuid[], out oldest timestamptz, out newest timestamptz,
    out delivered bigint, out read bigint
) language sql stable as $$
    select coalesce(bool_or(each.is_undelivered), false),
           array_agg(distinct each.delivered_by) filter (where each.is_overdue),
           min(each.oldest), max(each.newest),
           coalesce(sum(each.delivered), 0)::bigint, coalesce(sum(each.read), 0)::bigint
    from (
        select p.delivered_by, top.created as oldest, bottom.created as newest,
               top.created <= now() - p_read_after and top.seq <= greatest(p.delivered_seq, p.private_delivered_seq)
               and (p.asked_by is null or top.seq <= request.seq) as is_overdue,
               greatest(mark.delivered, floor_of(c, p)) < c.last_seq and unread_count(c, p) > 0 and wants_notices(p)
               -- In a request only the first message that is not quiet counts.
               and (p.asked_by is null or mark.delivered < request.seq) and exists (
                   select from readable_messages(c.id, p.user_id, floor_of(c, p)) m
                   where m.seq > mark.delivered and not m.is_gone and not m.is_quiet and m.sender_id <> p_user
               ) as is_undelivered,
               case when is_blocker(c, p_user) then 0 else mark.delivered - p.since_seq end as delivered,
               case when is_blocker(c, p_user) then 0 else mark.read - p.since_seq end as read
        from participants p
        -- The limit makes Postgres look up each by its key. Without it, a plan made for few conversations reads them
        -- all.
        cross join lateral (select * from conversations c where c.id = p.conversation_id limit 1) c
        cross join lateral (
            select greatest(p.delivered_seq, p.private_delivered_seq, p.private_read_seq, p.since_seq) as delivered,
                   greatest(p.read_seq, p.private_read_seq, p.since_seq) as read
        ) mark
        left join lateral (
            select first_counted(p.conversation_id, p.asked_seq) as seq where p.asked_seq is not null
        ) request on true
        left join lateral (
            select m.seq, m.created from readable_messages(c.id, p.user_id, floor_of(c, p)) m
            where m.seq > mark.read and unread_count(c, p) > 0 and wants_notices(p)
              and not m.is_gone and not m.is_quiet and m.sender_id <> p_user
            order by m.seq limit 1
        ) top on true
        left join lateral (
            select m.created from readable_messages(c.id, p.user_id, floor_of(c, p)) m
            where m.seq >= top.seq and not m.is_gone and not m.is_quiet and m.sender_id <> p_user
              and (p.asked_by is null or m.seq <= greatest(request.seq, top.seq))
            order by m.seq desc limit 1
        ) bottom on true
        where p.user_id = p_user
    ) each
$$;
