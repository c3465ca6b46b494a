-- Up to which message nothing counts as unread for a participant, but for the conversation's floor.
create or replace function count_base(p participants) returns bigint language sql immutable parallel safe as $$
    select greatest(p.read_seq, p.private_read_seq, p.since_seq, p.joined_seq)
$$;
