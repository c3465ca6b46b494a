-- How many messages of a conversation a participant has not read, without counting messages: who sends has read, so all that
-- lies above the base was sent by others; `uncounted` of it does not count.
create or replace function unread_count(c conversations, p participants) returns bigint language sql immutable parallel safe as $$
    select greatest(c.last_seq - greatest(p.read_seq, p.private_read_seq, p.since_seq, p.joined_seq, c.floor_seq) - p.uncounted, 0)
$$;
