-- The number of messages that a participant has not read, without counting messages. A sender has read, so all messages
-- above the base are of others; `uncounted` of them do not count.
create or replace function unread_count(c conversations, p participants) returns bigint
language sql immutable parallel safe as $$
    select greatest(
        c.last_seq - greatest(p.read_seq, p.private_read_seq, p.since_seq, p.joined_seq, c.floor_seq) - p.uncounted, 0)
$$;
