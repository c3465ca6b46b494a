-- The first message after p_seq that is not quiet: a request causes one notice, for this one. Null: there is none yet.
create or replace function first_counted(p_conversation uuid, p_seq bigint) returns bigint
language sql stable parallel safe as $$
    select m.seq from messages m
    where m.conversation_id = p_conversation and m.seq > p_seq and not m.is_quiet order by m.seq limit 1
$$;
