-- By how much participants.uncounted shrinks when the base of a participant moves from p_after to p_upto. Each message is
-- counted once for each participant, when the base passes it.
--
-- Volatile: it sees what was committed until now, also where the statement that calls it began to wait for the participant's
-- row before that. Whoever raises `uncounted`, or moves a floor, updates that row in the same transaction; so here what is
-- seen is exactly what the row has.
create or replace function uncounted_between(p_conversation uuid, p_user uuid, p_after bigint, p_upto bigint) returns bigint
language plpgsql volatile as $$
begin
    return (
        select count(s.seq) from conversations c
        cross join lateral uncounted_seqs(p_conversation, p_user, greatest(p_after, c.floor_seq), p_upto) s(seq)
        where c.id = p_conversation
    );
end $$;
