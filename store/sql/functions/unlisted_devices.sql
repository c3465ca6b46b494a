-- Those of some devices that are not of the device set of a conversation: that have no identity, or whose user does not take
-- part, as the participants are shown. Null: all are. The caller has locked the conversation, and so the set.
create or replace function unlisted_devices(p_conversation uuid, p_devices uuid[]) returns uuid[]
language plpgsql stable as $$
begin
    return (
        select array_agg(n.id)
        from unnest(p_devices) n(id)
        -- The limit and the offsets make Postgres look up each by its key.
        left join lateral (
            select d.user_id from devices d where d.id = n.id and d.identity is not null limit 1
        ) d on true
        where not exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = d.user_id offset 0
        ) and not exists (
            select from withheld w where w.conversation_id = p_conversation and w.user_id = d.user_id offset 0
        )
    );
end $$;
