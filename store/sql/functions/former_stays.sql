-- The stays in a conversation that have ended, as the participants see them: first and last seq, the marks at the end,
-- and the user who ended it (null: the user themselves).
create or replace function former_stays(p_conversation uuid)
returns table (user_id uuid, since_seq bigint, left_seq bigint, delivered_seq bigint, read_seq bigint, removed_by uuid,
               departed timestamptz)
language sql stable as $$
    select d.user_id, d.since_seq, d.left_seq, d.delivered_seq, d.read_seq, d.removed_by, d.departed from departures d
    where d.conversation_id = p_conversation and not d.is_private
    union all
    select s.user_id, s.since_seq, s.left_seq, s.delivered_seq, s.read_seq, s.removed_by, s.departed from stays s
    where s.conversation_id = p_conversation
$$;
