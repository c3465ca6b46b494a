-- The base of a participant without the floor of the conversation: no message up to it counts as unread.
create or replace function count_base(p participants) returns bigint language sql immutable parallel safe as $$
    select greatest(p.read_seq, p.private_read_seq, p.since_seq, p.joined_seq)
$$;
