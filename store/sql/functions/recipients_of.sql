-- The recipients of a message, and their marks: all users who took part when it was sent, other than its sender. Users
-- who have left count on, with the marks at the end of that stay. Users who joined later never count.
create or replace function recipients_of(p_conversation uuid, p_seq bigint, p_sender uuid)
returns table (user_id uuid, delivered_seq bigint, read_seq bigint) language sql stable as $$
    select p.user_id, p.delivered_seq, p.read_seq from shown_participants p
    where p.conversation_id = p_conversation and p.since_seq < p_seq and p.user_id <> p_sender
    union all
    select f.user_id, f.delivered_seq, f.read_seq from former_stays(p_conversation) f
    where p_seq > f.since_seq and p_seq <= f.left_seq and f.user_id <> p_sender
$$;
