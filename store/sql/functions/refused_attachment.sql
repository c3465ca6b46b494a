-- Why a message of p_user cannot have these attachments, by the first that it cannot have; null: it can.
--
-- p_held: as lock_attachments() has returned them; only such files can be new to a message.
-- p_conversation, p_seq: a message that may keep those that it has; null: a new message.
-- 'unattachable': it does not exist, is another user's, a thumbnail or an avatar, or is orphaned
-- 'incomplete': it or its thumbnail is not complete
-- 'used': it belongs to another message, or is named twice
create or replace function refused_attachment(
    p_user uuid, p_ids uuid[], p_held uuid[], p_conversation uuid, p_seq bigint
) returns text language sql as $$
    select found.outcome from (
        select w.n, case
            when a.id is null or a.user_id <> p_user or a.thumbnail_of is not null or a.is_avatar then 'unattachable'
            when w.nth > 1 then 'used'
            when a.conversation_id = p_conversation and a.seq = p_seq then null
            when a.conversation_id is not null then 'used'
            when a.id <> all(p_held) or t.id <> all(p_held) then 'unattachable'
            when a.completed is null or t.id is not null and t.completed is null then 'incomplete' end as outcome
        from (
            select i.id, i.n, row_number() over (partition by i.id order by i.n) as nth
            from unnest(p_ids) with ordinality as i(id, n)
        ) w
        left join attachments a on a.id = w.id
        left join attachments t on t.thumbnail_of = a.id
    ) found
    where found.outcome is not null
    order by found.n limit 1
$$;
