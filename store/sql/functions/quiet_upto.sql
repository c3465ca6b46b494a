-- How many of a conversation's messages up to p_seq are quiet, by the message after it. Null: there is none, since p_seq is
-- the last message, or since it lies below the floor.
create or replace function quiet_upto(p_conversation uuid, p_seq bigint) returns bigint
language plpgsql stable parallel safe as $$
begin
    return (select m.quiet_count - m.is_quiet::int from messages m
            where m.conversation_id = p_conversation and m.seq = p_seq + 1);
end $$;
