-- The number of messages that a participant has not read, without counting messages. A sender has read, so all messages
-- above the base are of others; `uncounted` of them do not count, nor do quiet ones (quiet_at). Postgres inlines this
-- function.
create or replace function unread_count(c conversations, p participants) returns bigint
language sql stable parallel safe as $$
    select greatest(
        c.last_seq - greatest(p.read_seq, p.private_read_seq, p.since_seq, p.joined_seq, c.floor_seq) - p.uncounted
        - c.quiet_count
        + quiet_at(c, greatest(p.read_seq, p.private_read_seq, p.since_seq, p.joined_seq, c.floor_seq)), 0)
$$;
